/**
 * What people do to runs: retry and restart them; and runs that continue as another one.
 *
 * Columns of runs are null where they do not matter, so that a run that nobody acts on stores nothing for them. No index of a
 * hot table is added.
 */
import { continuations } from './0008-continuations.js';
import { restarts } from './0008-restarts.js';
import { retries } from './0008-retries.js';

const tables = `
lock table perdure.workflow_runs in access exclusive mode;

alter table perdure.workflow_runs
  -- The place that a retry of the ended run goes back to, as its worker has sent it: leaseToken, eventSeq, seq.
  add column end_cut       jsonb,
  -- The latest retry by a person: the run timeout counts from here.
  add column reopened_at   timestamptz,
  -- The run that this one repeats or continues.
  add column origin_run_id uuid,
  add column origin_kind   text check (origin_kind in ('RESTART', 'CONTINUE')),
  -- The first run of the chain; null for that one, and for runs without a chain.
  add column first_run_id  uuid,
  -- The run that this one was continued as.
  add column next_run_id   uuid,
  drop constraint workflow_runs_status_check,
  add constraint workflow_runs_status_check check (status in
    ('PENDING', 'RUNNING', 'SLEEPING', 'WAITING', 'PAUSED', 'COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'CONTINUED')),
  drop constraint finished_iff_terminal,
  add constraint finished_iff_terminal check (
    (finished_at is not null) = (status in ('COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'CONTINUED'))),
  add constraint next_iff_continued check ((next_run_id is not null) = (status = 'CONTINUED')),
  add constraint origin_is_complete check ((origin_run_id is null) = (origin_kind is null));

-- What people did to runs, and why.
create table perdure.run_actions (
  run_id     uuid        not null,
  acted_at   timestamptz not null,
  seq        integer     not null check (seq >= 1),
  kind       text        not null check (kind in ('RETRY', 'RESTART')),
  -- Who it was, for people.
  actor      text        not null default '',
  reason     text        not null default '',
  request_id text,
  -- What the action has replaced, or made.
  detail     jsonb,
  primary key (run_id, seq)
);
create unique index run_actions_request_id on perdure.run_actions (run_id, request_id) where request_id is not null;

-- Notes an action on a locked run.
create function perdure.note_action(acted_run uuid, action text, by_actor text, for_reason text, request text, details jsonb)
  returns void
  language plpgsql volatile
  as $$ begin
    insert into perdure.run_actions (run_id, acted_at, seq, kind, actor, reason, request_id, detail)
    select acted_run, perdure.clock(), coalesce(max(a.seq), 0) + 1, action, by_actor, for_reason, request, details
    from perdure.run_actions a where a.run_id = acted_run;
  end $$;
`;

export const control = tables + retries + restarts + continuations;
