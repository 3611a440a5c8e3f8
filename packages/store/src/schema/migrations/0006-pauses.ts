/**
 * Pauses of runs, of task queues and of workflow types (decision 0026).
 *
 * A pause of a run is beside its status: what wakes a run (timers, messages, ends of children) changes the status as always, and a paused
 * run that is PENDING is in no index that a claim reads. So no statement that wakes runs needs to know of pauses.
 */
export const pauses = `
lock table perdure.workflow_runs, perdure.step_runs in access exclusive mode;

alter table perdure.workflow_runs
  -- Null: not paused. Kept by a run that ends while it is paused, where it means nothing.
  add column paused_at timestamptz,
  drop constraint workflow_runs_yield_reason_check,
  add constraint workflow_runs_yield_reason_check check (yield_reason in
    ('START_DELAY', 'SUSPEND', 'RELEASE', 'RUN_RETRY', 'RECLAIM', 'STEP_TIMEOUT', 'HOLD'));

-- Claims.
drop index perdure.workflow_runs_claimable;
create index workflow_runs_claimable on perdure.workflow_runs (namespace, task_queue, suspect, priority desc, available_at)
  where status = 'PENDING' and paused_at is null;
-- Lists of paused runs.
create index workflow_runs_paused on perdure.workflow_runs (namespace, run_id) where paused_at is not null and finished_at is null;

-- Every pause of a run, also those that are over: who, when and why.
create table perdure.run_pauses (
  run_id     uuid        not null,
  seq        integer     not null check (seq >= 1),
  paused_at  timestamptz not null,
  resumed_at timestamptz,
  paused_by  text        not null,
  resumed_by text,
  reason     text        not null,
  -- Why its worker could not continue the run, when Perdure has paused it.
  failure    jsonb,
  primary key (run_id, seq),
  constraint resumed_by_somebody check ((resumed_at is null) = (resumed_by is null))
);

-- A run is paused. The run is locked; the functions have a snapshot of their own, which shows the pauses before.
create function perdure.begin_pause(paused_run uuid, by_whom text, why text) returns void
  language plpgsql volatile
  as $$ begin
    insert into perdure.run_pauses (run_id, seq, paused_at, paused_by, reason)
    values (paused_run, coalesce((select max(p.seq) from perdure.run_pauses p where p.run_id = paused_run), 0) + 1, perdure.clock(), by_whom, why);
  end $$;

-- The pause of a run is over. The run is locked.
create function perdure.end_pause(resumed_run uuid, by_whom text) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.run_pauses p set resumed_at = perdure.clock(), resumed_by = by_whom
    where p.run_id = resumed_run and p.resumed_at is null;
  end $$;

-- Why the worker of a run could not continue it: a pause of its own, unless somebody has paused the run already. The run is locked.
create function perdure.note_hold(held_run uuid, why jsonb) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.run_pauses p set failure = why where p.run_id = held_run and p.resumed_at is null;
    if not found then
      insert into perdure.run_pauses (run_id, seq, paused_at, paused_by, reason, failure)
      values (held_run, coalesce((select max(p.seq) from perdure.run_pauses p where p.run_id = held_run), 0) + 1, perdure.clock(), '', '', why);
    end if;
  end $$;

-- Task queues and workflow types that are paused: a handful of rows. Every statement that leases runs reads those that concern it
-- FOR KEY SHARE, and a pause first locks the table EXCLUSIVE: it waits until all such statements have committed that did not see it, and
-- later ones see it. Reads without such a lock, of a backup for example, do not conflict with it.
create table perdure.dispatch_pauses (
  namespace text        not null,
  kind      text        not null check (kind in ('TASK_QUEUE', 'WORKFLOW_TYPE')),
  name      text        not null,
  paused_at timestamptz not null,
  paused_by text        not null,
  reason    text        not null,
  primary key (namespace, kind, name)
);

create function perdure.pause_dispatch(pause_namespace text, pause_kind text, pause_name text, pause_by text, pause_reason text)
  returns text
  language plpgsql volatile
  as $$ begin
    if not exists (select 1 from perdure.namespaces n where n.name = pause_namespace) then return 'namespace_not_found'; end if;
    lock table perdure.dispatch_pauses in exclusive mode;
    insert into perdure.dispatch_pauses (namespace, kind, name, paused_at, paused_by, reason)
    values (pause_namespace, pause_kind, pause_name, perdure.clock(), pause_by, pause_reason)
    on conflict do nothing;
    return case when found then 'paused' else 'already_paused' end;
  end $$;

-- Steps that wait for something from outside, and children, do not begin in a paused run. One case more in the functions that begin
-- them, after those that answer a repeat.
do $patch$
declare
  begins text;
  refusal constant text := 'when r.cancel_requested_at is not null and not c.uncancellable then ''cancel_requested''';
begin
  for begins in
    select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'perdure' and p.proname in ('await_steps', 'start_children')
  loop
    if position(refusal in begins) = 0 then raise exception 'No place for the refusal of steps of paused runs in: %', begins; end if;
    execute replace(begins, refusal, 'when r.paused_at is not null then ''paused'' ' || refusal);
  end loop;
end $patch$;
`;
