/**
 * Waiting for what comes from outside of a run (decision 0020), and signals, the first of it.
 *
 * The functions lock the runs in their first statement, in the order of the ids, and read and write in the next one, whose snapshot
 * shows everything that was committed before the locks were taken. So a signal that is sent while a run begins to wait is either seen
 * by the wait, or sees it.
 */
export const arrivals = `
lock table perdure.workflow_runs, perdure.step_runs in access exclusive mode;

alter table perdure.workflow_runs
  -- Steps of the run have an outcome from outside that the code has not been given.
  add column has_arrivals     boolean not null default false,
  -- A suspended run wakes after this many further arrivals.
  add column arrivals_awaited integer not null default 1 check (arrivals_awaited >= 0),
  -- The place of the latest TakeArrivals: lease token * 2^32 + event_seq.
  add column last_take        bigint  not null default 0,
  -- The worker that suspended the run and keeps its code in memory. Null once the run was claimed again.
  add column suspended_by     uuid,
  -- Number of the latest signal.
  add column signal_seq       integer not null default 0 check (signal_seq >= 0);

alter table perdure.step_runs
  -- What a step of a kind that ends from outside waits for: the name of the signal, for example.
  add column awaits     text,
  -- The outcome came from outside, and has no place in the order of results yet.
  add column is_arrived boolean not null default false,
  drop constraint step_runs_kind_check,
  add constraint step_runs_kind_check check (kind in
    ('FUNCTION', 'SLEEP', 'SIGNAL', 'CHILD', 'HUMAN', 'TRANSACTION', 'VERSION', 'EVENT', 'PROMISE', 'UPDATE')),
  drop constraint step_runs_status_check,
  add constraint step_runs_status_check check (status in ('RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED', 'TIMED_OUT')),
  drop constraint fires_iff_sleep,
  add constraint sleep_fires check (kind <> 'SLEEP' or fires_at is not null),
  add constraint only_waits_fire check (fires_at is null or kind = 'SLEEP' or awaits is not null),
  drop constraint only_latest_completed,
  add constraint only_latest_completed check (status not in ('COMPLETED', 'TIMED_OUT') or is_latest or is_cut),
  add constraint arrived_has_no_place check (
    not is_arrived or (finished_at is not null and event_seq is null and is_latest and not is_cut));

-- Outcomes to take: as many rows as have arrived in the last moments.
create index step_runs_arrived on perdure.step_runs (run_id) where is_arrived;
-- Who waits for it.
create index step_runs_awaiting on perdure.step_runs (run_id, kind, awaits, seq) where status = 'RUNNING' and awaits is not null;

create table perdure.signals (
  run_id           uuid        not null,
  sent_at          timestamptz not null,
  seq              integer     not null check (seq >= 1),
  name             text        not null,
  request_id       text,
  -- Who sent it, for people: the identity of a client, or a run.
  sender           text        not null default '',
  -- The step that received it.
  consumed_by      text,
  payload          bytea,
  payload_encoding text,
  primary key (run_id, seq)
);
alter table perdure.signals set (toast_tuple_target = 512, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
alter table perdure.signals alter column payload set storage external;
create unique index signals_request_id on perdure.signals (run_id, request_id) where request_id is not null;
create index signals_unconsumed on perdure.signals (run_id, name, seq) where consumed_by is null;
-- Which signal a step received, for the history and for a cut.
create index signals_consumed on perdure.signals (run_id, consumed_by) where consumed_by is not null;

-- The functions below lock runs in a statement of their own. So the statements after it see every step of the runs as it is, nobody changes the
-- steps meanwhile, and an update may name a step by where it was found (ctid). Joined by its key, the update had a plan that reads all steps of all
-- runs as soon as it was planned while the tables were empty.
create function perdure.lock_runs(locked uuid[]) returns void
  language plpgsql volatile
  as $$ begin
    perform 1 from perdure.workflow_runs r where r.run_id = any(locked) order by r.run_id for no key update;
  end $$;

-- For a step that begins to wait, in a locked run: takes what is there already. No row when nothing is. One function per kind.
create function perdure.bind_signal(waiting_run uuid, waiting_step text, awaited text)
  returns table (status text, output bytea, output_encoding text, failure jsonb)
  language plpgsql volatile
  as $$ begin
    return query
    update perdure.signals s set consumed_by = waiting_step
    where s.ctid = (
      select u.ctid from perdure.signals u
      where u.run_id = waiting_run and u.name = awaited and u.consumed_by is null order by u.seq limit 1)
    returning 'COMPLETED', s.payload, s.payload_encoding, null::jsonb;
  end $$;

create function perdure.bind_arrival(waiting_run uuid, waiting_step text, waiting_kind text, awaited text)
  returns table (status text, output bytea, output_encoding text, failure jsonb)
  language plpgsql volatile
  as $$ begin
    case waiting_kind
      when 'SIGNAL' then return query select * from perdure.bind_signal(waiting_run, waiting_step, awaited);
      else null;
    end case;
  end $$;

-- Begins waits: a step of a kind that ends from outside is recorded as open, or as ended when what it waits for is there already.
create function perdure.await_steps(run_ids uuid[], namespaces text[], lease_tokens integer[], step_ids text[], seqs integer[], kinds text[],
    attempt_numbers integer[], awaiting text[], timeouts_ms float8[], event_seqs integer[], uncancellables boolean[])
  returns table (ord integer, verdict text, attempt_number integer, status text, output bytea, output_encoding text, failure jsonb,
    finished_at timestamptz, remaining_ms float8, recorded_kind text, recorded_seq integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  begin
    perform perdure.lock_runs(run_ids);
    return query
    with command as (
      select * from unnest(run_ids, namespaces, lease_tokens, step_ids, seqs, kinds, attempt_numbers, awaiting, timeouts_ms, event_seqs,
          uncancellables)
        with ordinality as t(run_id, namespace, lease_token, step_id, seq, kind, attempt_number, awaits, timeout_ms, event_seq,
          uncancellable, ord)
    ),
    judged as materialized (
      select c.*, r.leased_by, p.attempt_number as previous, p.kind as recorded_kind, p.seq as recorded_seq, p.status as recorded_status,
        p.output as recorded_output, p.output_encoding as recorded_encoding, p.failure as recorded_failure,
        p.finished_at as recorded_finished_at, p.fires_at as recorded_fires_at,
        case
          when r.run_id is null or r.namespace <> c.namespace then 'run_not_found'
          when r.status <> 'RUNNING' or r.lease_token <> c.lease_token then 'lease_lost'
          when not p.is_cut and (p.kind <> c.kind or p.seq <> c.seq) then 'step_mismatch'
          when not p.is_cut and p.status <> 'RUNNING' and p.lease_token = c.lease_token and p.event_seq = c.event_seq then 'arrived'
          when not p.is_cut and (p.status = 'RUNNING' or p.is_arrived) then 'waiting'
          when r.cancel_requested_at is not null and not c.uncancellable then 'cancel_requested'
          when (p.run_id is not null and not p.is_cut) or c.attempt_number <> coalesce(p.attempt_number, 0) + 1 then 'wrong_attempt'
          else 'await'
        end as verdict
      from command c
      left join lateral (select * from perdure.workflow_runs x where x.run_id = c.run_id limit 1) r on true
      left join lateral (
        select * from perdure.step_runs x where x.run_id = c.run_id and x.step_id = c.step_id and x.attempt_key = 0 limit 1) p on true
    ),
    replaced as (
      update perdure.step_runs s set is_latest = false
      from judged j
      where j.verdict = 'await' and j.previous is not null
        and s.run_id = j.run_id and s.step_id = j.step_id and s.attempt_number = j.previous and s.attempt_key = 0
      returning 1
    ),
    bound as materialized (
      select j.ord, b.*
      from judged j
      cross join lateral perdure.bind_arrival(j.run_id, j.step_id, j.kind, j.awaits) b
      where j.verdict = 'await'
    ),
    begun as (
      insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
        lease_token, worker_id, started_at, finished_at, fires_at, event_seq, awaits, output, output_encoding, failure)
      select j.run_id, j.step_id, j.attempt_number, j.seq, j.kind,
        coalesce(b.status, case when j.timeout_ms = 0 then 'TIMED_OUT' else 'RUNNING' end), true, 1, 1,
        j.lease_token, j.leased_by, perdure.clock(),
        case when b.ord is not null or j.timeout_ms = 0 then perdure.clock() end,
        perdure.clock() + j.timeout_ms * interval '1 ms',
        case when b.ord is not null or j.timeout_ms = 0 then j.event_seq end, j.awaits, b.output, b.output_encoding, b.failure
      from judged j
      left join bound b on b.ord = j.ord
      -- Reading the count makes the insert wait for the update: both touch the same unique index.
      where j.verdict = 'await' and (select count(*) from replaced) >= 0
      returning run_id, step_id, attempt_number, status, output, output_encoding, failure, finished_at, fires_at
    )
    select j.ord::int,
      case when j.verdict <> 'await' then j.verdict when d.status = 'RUNNING' then 'waiting' else 'arrived' end,
      coalesce(d.attempt_number, j.previous, 0), coalesce(d.status, j.recorded_status, 'none'),
      coalesce(d.output, j.recorded_output), coalesce(d.output_encoding, j.recorded_encoding), coalesce(d.failure, j.recorded_failure),
      coalesce(d.finished_at, j.recorded_finished_at),
      (extract(epoch from coalesce(d.fires_at, j.recorded_fires_at) - perdure.clock()) * 1000)::float8,
      j.recorded_kind, j.recorded_seq
    from judged j
    left join begun d on d.run_id = j.run_id and d.step_id = j.step_id
    order by j.ord;
  end $$;

-- Gives outcomes that have arrived their place in the order of results, and ends waits whose timeout has passed. One row per outcome,
-- and at least one per command. A repeat is answered like the first call.
create function perdure.take_arrivals(run_ids uuid[], namespaces text[], lease_tokens integer[], event_seqs integer[],
    due_ords bigint[], due_steps text[], max_entries integer, max_bytes float8)
  returns table (ord integer, verdict text, has_more boolean, step_id text, seq integer, kind text, attempt_number integer, status text,
    output bytea, output_encoding text, failure jsonb, finished_at timestamptz, fires_at timestamptz, remaining_ms float8)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  begin
    perform perdure.lock_runs(run_ids);
    return query
    with command as (
      select t.*, t.lease_token * 4294967296 + t.event_seq as place
      from unnest(run_ids, namespaces, lease_tokens::bigint[], event_seqs) with ordinality as t(run_id, namespace, lease_token, event_seq, ord)
    ),
    judged as materialized (
      select c.*, r.has_arrivals,
        case
          when r.run_id is null or r.namespace <> c.namespace then 'run_not_found'
          when r.status <> 'RUNNING' or r.lease_token <> c.lease_token then 'lease_lost'
          when r.last_take >= c.place then 'repeat'
          else 'take'
        end as verdict
      from command c
      left join lateral (select * from perdure.workflow_runs x where x.run_id = c.run_id limit 1) r on true
    ),
    due as materialized (
      select j.ord, s.step_at, s.step_id, s.attempt_number, s.seq, s.fires_at, s.fires_at <= perdure.clock() as is_due
      from unnest(due_ords, due_steps) as d(ord, step_id)
      join judged j on j.ord = d.ord and j.verdict = 'take'
      cross join lateral (
        select x.*, x.ctid as step_at from perdure.step_runs x where x.run_id = j.run_id and x.step_id = d.step_id and x.attempt_key = 0 limit 1) s
      where s.status = 'RUNNING' and s.awaits is not null and s.fires_at is not null
    ),
    candidate as (
      select ord, step_at, row_number() over arrival as nth, sum(bytes) over arrival as bytes
      from (
        select j.ord, s.ctid as step_at, s.seq, case when s.kind = 'SLEEP' then s.fires_at else s.finished_at end as at,
          100 + coalesce(octet_length(s.output), 0) + coalesce(s.failure_bytes, 0) as bytes
        from judged j
        join perdure.step_runs s on s.run_id = j.run_id and s.is_arrived
        where j.verdict = 'take' and j.has_arrivals
        union all
        select d.ord, d.step_at, d.seq, perdure.clock(), 100 from due d where d.is_due
      ) a
      window arrival as (partition by ord order by at, seq)
    ),
    chosen as materialized (
      select * from candidate where nth <= max_entries and (bytes <= max_bytes or nth = 1)
    ),
    taken as (
      update perdure.step_runs s
      set is_arrived = false, lease_token = j.lease_token, event_seq = j.event_seq,
        status = case when s.status = 'RUNNING' then 'TIMED_OUT' else s.status end, finished_at = coalesce(s.finished_at, perdure.clock())
      from chosen c
      join judged j on j.ord = c.ord
      where s.ctid = c.step_at
      returning j.ord, s.*
    ),
    rest as (
      select ord, count(*) > max(nth) filter (where nth <= max_entries and (bytes <= max_bytes or nth = 1)) as has_more
      from candidate group by ord
    ),
    noted as (
      update perdure.workflow_runs r
      set has_arrivals = coalesce(t.has_more, false), last_take = j.place
      from judged j
      left join rest t on t.ord = j.ord
      where j.verdict = 'take' and r.run_id = j.run_id
      returning 1
    ),
    outcome as (
      select t.ord, t.step_id, t.seq, t.kind, t.attempt_number, t.status, t.output, t.output_encoding, t.failure, t.finished_at, t.fires_at
      from taken t
      union all
      select j.ord, s.step_id, s.seq, s.kind, s.attempt_number, s.status, s.output, s.output_encoding, s.failure, s.finished_at, s.fires_at
      from judged j
      join perdure.step_runs s on s.run_id = j.run_id and s.attempt_key = 0 and s.lease_token = j.lease_token and s.event_seq = j.event_seq
        and not s.is_cut
      where j.verdict = 'repeat'
    )
    select * from (
      select j.ord::int as ord,
        case when o.step_id is not null then 'taken' when j.verdict in ('take', 'repeat') then 'nothing' else j.verdict end as verdict,
        case when j.verdict = 'repeat' then coalesce(j.has_arrivals, false) else coalesce(t.has_more, false) end as has_more,
        o.step_id, o.seq, o.kind, o.attempt_number, o.status, o.output, o.output_encoding, o.failure, o.finished_at, o.fires_at,
        null::float8 as remaining_ms
      from judged j
      left join rest t on t.ord = j.ord
      left join outcome o on o.ord = j.ord
      union all
      select d.ord::int, 'not_due', false, d.step_id, d.seq, null, d.attempt_number, 'RUNNING', null, null, null, null, d.fires_at,
        (extract(epoch from d.fires_at - perdure.clock()) * 1000)::float8
      from due d where not d.is_due
    ) answer
    order by ord, case when kind = 'SLEEP' then fires_at else finished_at end, seq;
  end $$;

-- Takes, for a run that is being claimed, what has arrived before: its place is the first one of the new lease. The claim has noted that
-- all was taken.
create function perdure.take_claimed(claimed_run uuid, new_lease integer, max_entries integer, max_bytes float8)
  returns table (nth integer, arrived integer, step_id text, seq integer, kind text, attempt_number integer, status text, output bytea, output_encoding text,
    failure jsonb, finished_at timestamptz, fires_at timestamptz)
  -- Strict: not called without a run, which is how the claim calls it for the runs that it is for.
  language plpgsql volatile strict
  as $$
  #variable_conflict use_column
  begin
    return query
    with candidate as (
      select s.ctid as step_at, row_number() over arrival as nth, count(*) over () as arrived,
        sum(100 + coalesce(octet_length(s.output), 0) + coalesce(s.failure_bytes, 0)) over arrival as bytes
      from perdure.step_runs s
      where s.run_id = claimed_run and s.is_arrived
      window arrival as (order by case when s.kind = 'SLEEP' then s.fires_at else s.finished_at end, s.seq)
    )
    update perdure.step_runs s
    set is_arrived = false, lease_token = new_lease, event_seq = 1
    from candidate c
    where s.ctid = c.step_at and c.nth <= max_entries and (c.bytes <= max_bytes or c.nth = 1)
    returning c.nth::int, c.arrived::int, s.step_id, s.seq, s.kind, s.attempt_number, s.status, s.output, s.output_encoding, s.failure, s.finished_at,
      s.fires_at;
    if exists (select 1 from perdure.step_runs s where s.run_id = claimed_run and s.is_arrived) then
      update perdure.workflow_runs r set has_arrivals = true where r.run_id = claimed_run;
    end if;
  end $$;

-- Sends signals: each is kept in the order of sending, and given at once to the first step that waits for its name.
create function perdure.send_signals(run_ids uuid[], namespaces text[], names text[], payloads bytea[], encodings text[], request_ids text[],
    senders text[], max_unconsumed integer)
  returns table (ord integer, verdict text, seq integer, status text, woken boolean, task_queue text, workflow_type text,
    leased_by uuid, lease_token integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  begin
    perform perdure.lock_runs(run_ids);
    return query
    with command as (
      select t.*, row_number() over (partition by t.run_id, coalesce(t.request_id, t.ord::text) order by t.ord) as use
      from unnest(run_ids, namespaces, names, payloads, encodings, request_ids, senders)
        with ordinality as t(run_id, namespace, name, payload, payload_encoding, request_id, sender, ord)
    ),
    run as materialized (
      select r.run_id, r.namespace, r.status, r.finished_at, r.signal_seq, r.arrivals_awaited, (
        select count(*) from (
          select 1 from perdure.signals u where u.run_id = r.run_id and u.consumed_by is null limit max_unconsumed) x
        )::int as unconsumed
      from (select distinct run_id from command) c
      cross join lateral (select * from perdure.workflow_runs x where x.run_id = c.run_id limit 1) r
    ),
    known as materialized (
      select c.*, r.status as run_status, r.signal_seq, r.unconsumed, k.seq as known_seq,
        case
          when r.run_id is null or r.namespace <> c.namespace then 'run_not_found'
          when k.seq is not null or c.use > 1 then 'duplicate'
          when r.finished_at is not null then 'run_closed'
        end as refusal
      from command c
      left join run r on r.run_id = c.run_id
      left join lateral (
        select x.seq from perdure.signals x where x.run_id = c.run_id and x.request_id = c.request_id limit 1) k on true
    ),
    numbered as materialized (
      select k.*, k.signal_seq + row_number() over (partition by k.run_id order by k.ord) as seq,
        row_number() over (partition by k.run_id, k.name order by k.ord) as nth
      from (
        select *, row_number() over (partition by run_id, refusal order by ord) + unconsumed > max_unconsumed as is_excess from known
      ) k
      where k.refusal is null and not k.is_excess
    ),
    -- A step that waits for a name means that no signal of the name is left unconsumed.
    receiver as materialized (
      select w.run_id, w.name, s.step_id, s.step_at, row_number() over (partition by w.run_id, w.name order by s.seq) as nth
      from (select run_id, name, count(*) as signals from numbered group by run_id, name) w
      cross join lateral (
        select x.step_id, x.seq, x.ctid as step_at from perdure.step_runs x
        where x.run_id = w.run_id and x.kind = 'SIGNAL' and x.awaits = w.name and x.status = 'RUNNING'
        order by x.seq limit w.signals) s
    ),
    given as materialized (
      select n.*, v.step_id, v.step_at from numbered n left join receiver v on v.run_id = n.run_id and v.name = n.name and v.nth = n.nth
    ),
    stored as (
      insert into perdure.signals (run_id, sent_at, seq, name, request_id, sender, consumed_by, payload, payload_encoding)
      select run_id, perdure.clock(), seq, name, request_id, sender, step_id, payload, payload_encoding from given
      returning 1
    ),
    received as (
      update perdure.step_runs s
      set status = 'COMPLETED', output = g.payload, output_encoding = g.payload_encoding, finished_at = perdure.clock(), is_arrived = true
      from given g
      where s.ctid = g.step_at
      returning 1
    ),
    total as (
      select run_id, max(seq)::int as last_seq, count(step_id)::int as arrivals from given group by run_id
    ),
    changed as (
      update perdure.workflow_runs r
      set signal_seq = t.last_seq,
        has_arrivals = r.has_arrivals or t.arrivals > 0,
        arrivals_awaited = greatest(r.arrivals_awaited - t.arrivals, 0),
        status = case when w.wakes then 'PENDING' else r.status end,
        available_at = case when w.wakes then perdure.clock() else r.available_at end,
        wake_at = case when w.wakes then null else r.wake_at end,
        waits = case when w.wakes then null else r.waits end,
        updated_at = case when w.wakes then perdure.clock() else r.updated_at end
      from total t
      cross join lateral (
        select x.status = 'WAITING' and t.arrivals > 0 and x.arrivals_awaited <= t.arrivals as wakes
        from run x where x.run_id = t.run_id) w
      where r.run_id = t.run_id
      returning r.run_id, r.status, w.wakes, t.arrivals, r.task_queue, r.workflow_type, r.leased_by, r.lease_token
    )
    select k.ord::int,
      case when k.refusal is not null then k.refusal when g.seq is null then 'too_many' else 'sent' end,
      coalesce(g.seq, k.known_seq)::int, k.run_status, coalesce(c.wakes, false) and c.arrivals > 0, c.task_queue, c.workflow_type,
      case when c.arrivals > 0 then c.leased_by end, c.lease_token
    from known k
    left join given g on g.ord = k.ord
    left join changed c on c.run_id = k.run_id
    order by k.ord;
  end $$;

create or replace function perdure.lose_open_steps(lost_run uuid, message text) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.step_runs s
    set status = 'FAILED', finished_at = perdure.clock(), next_retry_at = perdure.clock(), deadline_at = null,
      failure = jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST', 'message', message)
    where s.run_id = lost_run and s.attempt_key = 0 and s.status = 'RUNNING' and s.kind <> 'SLEEP' and s.awaits is null;
  end $$;

-- As before; and a signal that a step has received is free again when the step is cut.
create or replace function perdure.cut_steps(retried_run uuid, cut_lease integer, cut_event integer, cut_seq integer) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.signals g
    set consumed_by = null
    from perdure.step_runs s
    where s.run_id = retried_run and s.seq > cut_seq and s.kind = 'SIGNAL' and not s.is_cut and s.is_latest
      and g.run_id = retried_run and g.consumed_by = s.step_id;
    update perdure.step_runs s
    set is_cut = t.is_cut,
      is_arrived = s.is_arrived and not t.is_cut,
      status = case when not t.was_open then s.status when t.has_body then 'FAILED' else 'CANCELLED' end,
      finished_at = coalesce(s.finished_at, perdure.clock()),
      deadline_at = null,
      next_retry_at = case when not t.is_cut and s.is_latest then perdure.clock() end,
      failure = case when t.was_open and t.has_body then jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST',
        'message', 'The attempt of the run ended while this attempt of the step was open.') else s.failure end
    from (
      select x.step_id, x.attempt_number, coalesce(x.seq > cut_seq, false) as is_cut, x.status = 'RUNNING' as was_open,
        x.kind <> 'SLEEP' and x.awaits is null as has_body
      from perdure.step_runs x
      where x.run_id = retried_run and not x.is_cut and (
        x.seq > cut_seq
        or (x.is_latest and x.status = 'RUNNING' and x.kind <> 'SLEEP' and x.awaits is null)
        or (x.is_latest and x.status = 'FAILED' and x.next_retry_at is null and x.awaits is null
          and (x.lease_token, x.event_seq) >= (cut_lease, cut_event)))
    ) t
    where s.run_id = retried_run and s.step_id = t.step_id and s.attempt_number = t.attempt_number;
  end $$;
`;
