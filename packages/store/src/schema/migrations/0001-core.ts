/**
 * The core tables, and the reasons for their form:
 *
 * - Every claim, suspension and end changes `status`, which the partial indexes use, so such an update changes every index of
 *   the table: there are few. Lease renewals change only unindexed columns and stay heap-only (HOT).
 * - Payload columns are STORAGE EXTERNAL with a low toast_tuple_target: all but small payloads are stored out of line,
 *   where updates of the row do not copy them, and are not compressed a second time.
 * - No foreign key from steps to runs: every write of a step locks its run in the same statement, which guarantees
 *   more than the key would, without a second look-up for each row.
 */
export const core = `
create schema if not exists perdure;

-- The only source of time. Tests replace the function; no other SQL reads a clock.
create function perdure.clock() returns timestamptz
  language sql stable parallel safe
  as $$ select statement_timestamp() $$;

create table perdure.namespaces (
  name        text        primary key check (name ~ '^[a-z][a-z0-9-]{0,62}$'),
  description text        not null default '',
  created_at  timestamptz not null default perdure.clock()
);
insert into perdure.namespaces (name, description) values ('default', 'Used when a request names no namespace');

create table perdure.workflow_runs (
  run_id                uuid        primary key,
  leased_by             uuid,
  created_at            timestamptz not null,
  updated_at            timestamptz not null,
  started_at            timestamptz,
  finished_at           timestamptz,
  lease_expires_at      timestamptz,
  available_at          timestamptz,
  wake_at               timestamptz,
  cancel_requested_at   timestamptz,
  run_deadline_at       timestamptz,
  execution_deadline_at timestamptz,
  deadline_at           timestamptz generated always as (least(run_deadline_at, execution_deadline_at)) stored,
  execution_timeout_ms  bigint      not null default 0 check (execution_timeout_ms >= 0),
  lease_token           integer     not null default 0 check (lease_token >= 0),
  attempt               integer     not null default 1 check (attempt >= 1),
  lost_leases           integer     not null default 0 check (lost_leases >= 0),
  -- The lost leases that count towards max_lost_leases, see decision 0014.
  counted_losses        integer     not null default 0 check (counted_losses >= 0),
  retries               integer     not null default 0 check (retries >= 0),
  -- The place at which the code learned of the cancel request.
  cancel_lease_token    integer,
  cancel_event_seq      integer,
  max_lost_leases       integer     not null check (max_lost_leases >= 1),
  priority              smallint    not null default 0 check (priority between -100 and 100),
  -- A suspect may be what kills its workers: a worker executes one suspect at a time.
  suspect               boolean     not null generated always as (lost_leases >= 2) stored,
  -- WAITING and PAUSED are reserved: nothing sets them yet.
  status                text        not null check (status in
    ('PENDING', 'RUNNING', 'SLEEPING', 'WAITING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED')),
  yield_reason          text        check (yield_reason in
    ('START_DELAY', 'SUSPEND', 'RELEASE', 'RUN_RETRY', 'RECLAIM', 'STEP_TIMEOUT')),
  namespace             text        not null,
  workflow_id           text        not null,
  workflow_type         text        not null,
  build                 text        not null default '',
  task_queue            text        not null,
  request_id            text,
  cancel_reason         text,
  last_release_reason   text,
  waits                 jsonb,
  input                 bytea,
  input_encoding        text,
  output                bytea,
  output_encoding       text,
  failure               jsonb,
  constraint leased_iff_running check (
    (status = 'RUNNING') = (leased_by is not null) and (status = 'RUNNING') = (lease_expires_at is not null)),
  constraint available_iff_pending check ((status = 'PENDING') = (available_at is not null)),
  constraint finished_iff_terminal check (
    (finished_at is not null) = (status in ('COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED'))),
  constraint timed_only_while_waiting check (wake_at is null or status in ('SLEEPING', 'WAITING', 'PAUSED')),
  constraint sleeper_wakes check (status <> 'SLEEPING' or wake_at is not null),
  constraint waits_only_while_waiting check (waits is null or status in ('SLEEPING', 'WAITING', 'PAUSED')),
  constraint output_only_when_completed check (status = 'COMPLETED' or (output is null and output_encoding is null)),
  constraint failed_says_why check (status <> 'FAILED' or failure is not null),
  constraint completed_without_failure check (status <> 'COMPLETED' or failure is null),
  constraint claimed_before_running check (lease_token > 0 or status <> 'RUNNING'),
  constraint cancel_observed_after_request check (
    (cancel_lease_token is null) = (cancel_event_seq is null) and (cancel_event_seq is null or cancel_requested_at is not null))
);
alter table perdure.workflow_runs set (
  fillfactor = 85, toast_tuple_target = 512,
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1
);
alter table perdure.workflow_runs
  alter column input set storage external, alter column output set storage external;

-- At most one open run per workflow id, and the newest ended one: open runs share the nil UUID, an ended run has its own id,
-- so one index serves both.
create unique index workflow_runs_workflow_id on perdure.workflow_runs (namespace, workflow_id,
  (case when finished_at is null then '00000000-0000-0000-0000-000000000000'::uuid else run_id end));
-- Claims.
create index workflow_runs_claimable on perdure.workflow_runs (namespace, task_queue, suspect, priority desc, available_at)
  where status = 'PENDING';
-- Whether a worker holds a suspect. Nearly always empty.
create index workflow_runs_suspects on perdure.workflow_runs (leased_by, run_id) where status = 'RUNNING' and suspect;
-- Wake-ups.
create index workflow_runs_wake on perdure.workflow_runs (wake_at) where wake_at is not null;
-- Leases: as many rows as the fleet has busy slots. Not on lease_expires_at, so that a renewal is a heap-only update.
create index workflow_runs_running on perdure.workflow_runs (namespace, task_queue) where status = 'RUNNING';
-- Timeouts.
create index workflow_runs_deadline on perdure.workflow_runs (deadline_at)
  where deadline_at is not null and finished_at is null;
-- A request id that is not hashed into the run id starts one run, with any workflow id.
create unique index workflow_runs_request_id on perdure.workflow_runs (namespace, request_id) where request_id is not null;
-- Lists, newest first.
create index workflow_runs_listed on perdure.workflow_runs (namespace, run_id);
-- Lists of failed runs.
create index workflow_runs_failed on perdure.workflow_runs (namespace, run_id) where status = 'FAILED';

create table perdure.step_runs (
  run_id             uuid        not null,
  worker_id          uuid,
  started_at         timestamptz not null,
  finished_at        timestamptz,
  next_retry_at      timestamptz,
  fires_at           timestamptz,
  deadline_at        timestamptz,
  seq                integer     not null check (seq >= 1),
  attempt_number     integer     not null check (attempt_number >= 1),
  counted_attempt         integer     not null check (counted_attempt >= 1),
  max_counted_attempts          integer     not null default 0 check (max_counted_attempts >= 0),
  lease_token        integer     not null check (lease_token >= 1),
  event_seq          integer,
  is_latest          boolean     not null default true,
  -- Taken back by a run-level retry: kept as history; the code may use the step id again.
  is_cut             boolean     not null default false,
  -- 0 for the latest attempt of a step, so that there is only one; the attempt number for any other.
  attempt_key        integer     not null generated always as (case when is_latest then 0 else attempt_number end) stored,
  -- All but FUNCTION and SLEEP are reserved, as is SKIPPED: nothing sets them yet.
  kind               text        not null check (kind in
    ('FUNCTION', 'SLEEP', 'SIGNAL', 'CHILD', 'HUMAN', 'TRANSACTION', 'VERSION')),
  status             text        not null check (status in ('RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED')),
  step_id            text        not null,
  input              bytea,
  input_encoding     text,
  output             bytea,
  output_encoding    text,
  heartbeat          bytea,
  heartbeat_encoding text,
  failure            jsonb,
  -- Size before compression: measuring the stored value for each page of a memo would read all of it.
  failure_bytes      integer     generated always as (octet_length(failure::text)) stored,
  primary key (run_id, step_id, attempt_key),
  constraint finished_iff_ended check ((status = 'RUNNING') = (finished_at is null)),
  constraint failed_says_why check (status <> 'FAILED' or failure is not null),
  constraint retry_only_after_failure check (next_retry_at is null or status = 'FAILED'),
  constraint fires_iff_sleep check ((kind = 'SLEEP') = (fires_at is not null)),
  constraint only_latest_open check (status <> 'RUNNING' or is_latest),
  constraint only_latest_completed check (status <> 'COMPLETED' or is_latest or is_cut),
  constraint cut_is_ended check (not is_cut or (status <> 'RUNNING' and next_retry_at is null)),
  constraint output_only_when_completed check (status = 'COMPLETED' or (output is null and output_encoding is null)),
  constraint deadline_only_while_running check (deadline_at is null or status = 'RUNNING')
);
alter table perdure.step_runs set (
  fillfactor = 90, toast_tuple_target = 512,
  autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 1
);
alter table perdure.step_runs
  alter column input set storage external, alter column output set storage external,
  alter column heartbeat set storage external;

-- Every step writes one row, and each index of the table costs as much as the row itself. So the primary key alone keeps
-- attempts apart, allows one latest attempt per step, and finds the memo of a run.
-- Attempts that may time out. The column becomes null when the attempt ends, so the index has open attempts only, and none
-- without a timeout.
create index step_runs_deadline on perdure.step_runs (deadline_at) where deadline_at is not null;

create table perdure.workers (
  worker_id          uuid        primary key,
  namespace          text        not null,
  task_queue         text        not null,
  workflow_types     text[]      not null,
  build              text        not null default '',
  identity           text        not null default '',
  slots              integer     not null check (slots >= 1),
  lease_ms           integer     not null check (lease_ms >= 1000),
  status             text        not null check (status in ('ONLINE', 'DRAINING', 'OFFLINE')),
  registered_at      timestamptz not null,
  last_seen_at       timestamptz not null,
  -- Kept while the worker is OFFLINE, so that it still drains when its heartbeats arrive again.
  drain_requested_at timestamptz,
  deregistered_at    timestamptz,
  -- The most losses in a row that a run lost with this worker had before. Null while heartbeats of the worker arrive.
  lost_run_losses    integer,
  constraint deregistered_is_offline check (deregistered_at is null or status = 'OFFLINE'),
  constraint draining_was_requested check (status <> 'DRAINING' or drain_requested_at is not null),
  constraint online_does_not_drain check (status <> 'ONLINE' or drain_requested_at is null)
);
alter table perdure.workers set (fillfactor = 50);
create index workers_queue on perdure.workers (namespace, task_queue) where status <> 'OFFLINE';

-- Servers alive: a server sees whether it has peers to notify, the reaper whether workers could renew their leases.
create table perdure.servers (
  server_id    uuid        primary key,
  identity     text        not null,
  started_at   timestamptz not null,
  alive_since  timestamptz not null,
  last_seen_at timestamptz not null
);
alter table perdure.servers set (fillfactor = 50);

-- Close open attempts when their run ends or is taken from its worker. The functions are VOLATILE, so each statement in them has
-- its own snapshot: called for a run that the calling statement has locked, they see every attempt that began before the lock
-- was taken, even those that the older snapshot of the calling statement does not show. None can begin after it, because
-- beginning an attempt locks the run first.

-- The run has ended: open attempts and timers become CANCELLED.
create function perdure.cancel_open_steps(ended_run uuid) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.step_runs s
    set status = 'CANCELLED', finished_at = perdure.clock(), deadline_at = null
    where s.run_id = ended_run and s.attempt_key = 0 and s.status = 'RUNNING';
  end $$;

-- Another worker continues the run: open attempts become FAILED as WORKER_LOST and are retried at once; timers stay.
create function perdure.lose_open_steps(lost_run uuid, message text) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.step_runs s
    set status = 'FAILED', finished_at = perdure.clock(), next_retry_at = perdure.clock(), deadline_at = null,
      failure = jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST', 'message', message)
    where s.run_id = lost_run and s.attempt_key = 0 and s.status = 'RUNNING' and s.kind <> 'SLEEP';
  end $$;

-- Another attempt of the run follows, and the code goes back to the place (cut_lease, cut_event) in the order of results: what
-- it requested after cut_seq is cut, failures that it was told from there on may be followed by another attempt, and open bodies
-- are WORKER_LOST, cut or not: a step that is executed at most once must be known to have begun. One update for all rows of
-- the run: timers that are not cut keep running. Without a place nothing is cut.
create function perdure.cut_steps(retried_run uuid, cut_lease integer, cut_event integer, cut_seq integer) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.step_runs s
    set is_cut = t.is_cut,
      status = case when not t.was_open then s.status when s.kind = 'SLEEP' then 'CANCELLED' else 'FAILED' end,
      finished_at = coalesce(s.finished_at, perdure.clock()),
      deadline_at = null,
      next_retry_at = case when not t.is_cut and s.is_latest then perdure.clock() end,
      failure = case when t.was_open and s.kind <> 'SLEEP' then jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST',
        'message', 'The attempt of the run ended while this attempt of the step was open.') else s.failure end
    from (
      select x.step_id, x.attempt_number, coalesce(x.seq > cut_seq, false) as is_cut, x.status = 'RUNNING' as was_open
      from perdure.step_runs x
      where x.run_id = retried_run and not x.is_cut and (
        x.seq > cut_seq
        or (x.is_latest and x.status = 'RUNNING' and x.kind <> 'SLEEP')
        or (x.is_latest and x.status = 'FAILED' and x.next_retry_at is null
          and (x.lease_token, x.event_seq) >= (cut_lease, cut_event)))
    ) t
    where s.run_id = retried_run and s.step_id = t.step_id and s.attempt_number = t.attempt_number;
  end $$;

-- Reapers alive. Nothing depends on it; it is how people learn that none is running.
create table perdure.reapers (
  reaper_id    uuid        primary key,
  identity     text        not null,
  started_at   timestamptz not null,
  last_seen_at timestamptz not null
);
alter table perdure.reapers set (fillfactor = 50);
`;
