/**
 * Child runs: a step of kind CHILD starts a run and waits for its end (decision 0020).
 *
 * Columns of runs are null where they do not matter, so that a run without parent and children stores nothing for them, and every
 * index is partial. The row of a child and the step of its parent are written in one statement; everything after that changes either
 * the child or the parent, never both under one lock, so the locks of a tree of runs cannot form a circle.
 */
export const children = `
lock table perdure.workflow_runs, perdure.step_runs in access exclusive mode;

alter table perdure.workflow_runs
  add column parent_run_id    uuid,
  add column parent_step_id   text,
  -- What happens to the run when its parent no longer waits for it.
  add column parent_close     text check (parent_close in ('CANCEL', 'TERMINATE', 'ABANDON')),
  -- The run has started children that were not closed since it ended.
  add column has_children     boolean,
  -- A suspended run wakes after this many further ends of children, or some time after the first; null: after the first.
  add column children_awaited integer check (children_awaited >= 0),
  add constraint child_is_complete check (
    (parent_run_id is null) = (parent_step_id is null) and (parent_run_id is null) = (parent_close is null));

-- The children of a run, in the order of their start.
create index workflow_runs_children on perdure.workflow_runs (parent_run_id, run_id) where parent_run_id is not null;
-- Parents that have ended and whose children were not closed: those of the last moments.
create index workflow_runs_unclosed on perdure.workflow_runs (finished_at) where has_children and finished_at is not null;

-- Children that have ended and whose parent was not told: those of the last moments. The statements that end runs insert here. A mark in the
-- run would be another version of a wide row, in all of its indexes.
create table perdure.child_ends (
  child_id uuid        primary key,
  ended_at timestamptz not null
);
alter table perdure.child_ends set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);

-- Runs of which a cancel or a retry has ended steps that waited for children: those of the last moments. The children are to be closed.
create table perdure.child_cuts (
  run_id uuid        primary key,
  cut_at timestamptz not null,
  -- Another one with each cut, so that the mark of a later cut is not taken for that of an earlier one.
  mark   uuid        not null
);
alter table perdure.child_cuts set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);

-- Starts children: the run of the child and the step of the parent that waits for its end are written together. When the
-- workflow id is taken, the step ends as FAILED instead.
create function perdure.start_children(run_ids uuid[], namespaces text[], lease_tokens integer[], step_ids text[], seqs integer[],
    attempt_numbers integer[], event_seqs integer[], uncancellables boolean[], child_ids uuid[], workflow_ids text[], workflow_types text[],
    task_queues text[], priorities integer[], builds text[], reuse_policies text[], closes text[], start_delays_ms bigint[],
    run_timeouts_ms bigint[], execution_timeouts_ms bigint[], max_lost_leases integer[], inputs bytea[], input_encodings text[])
  returns table (ord integer, verdict text, attempt_number integer, child_id text, task_queue text, status text, output bytea,
    output_encoding text, failure jsonb, finished_at timestamptz, recorded_kind text, recorded_seq integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  begin
    -- As guarded starts do: a policy that looks at ended runs must see every earlier start of the workflow id.
    if exists (select 1 from unnest(reuse_policies) p where p <> 'ALLOW') then
      perform pg_advisory_xact_lock(key) from (
        select distinct hashtextextended(namespace || E'\\n' || workflow_id, 7300) as key
        from unnest(namespaces, workflow_ids, reuse_policies) as t(namespace, workflow_id, policy)
        where policy <> 'ALLOW' and workflow_id is not null order by key) k;
    end if;
    perform perdure.lock_runs(run_ids);
    return query
    with command as (
      select * from unnest(run_ids, namespaces, lease_tokens, step_ids, seqs, attempt_numbers, event_seqs, uncancellables, child_ids,
          workflow_ids, workflow_types, task_queues, priorities, builds, reuse_policies, closes, start_delays_ms, run_timeouts_ms,
          execution_timeouts_ms, max_lost_leases, inputs, input_encodings)
        with ordinality as t(run_id, namespace, lease_token, step_id, seq, attempt_number, event_seq, uncancellable, child_id,
          workflow_id, workflow_type, task_queue, priority, build, reuse_policy, parent_close, start_delay_ms, run_timeout_ms,
          execution_timeout_ms, max_lost_leases, input, input_encoding, ord)
    ),
    judged as materialized (
      select c.run_id, c.namespace, c.lease_token, c.step_id, c.seq, c.attempt_number, c.event_seq, c.child_id, c.workflow_type,
        c.reuse_policy, c.parent_close, c.start_delay_ms, c.run_timeout_ms, c.execution_timeout_ms, c.max_lost_leases, c.input,
        c.input_encoding, c.ord, coalesce(c.task_queue, r.task_queue) as task_queue, coalesce(c.priority, r.priority) as priority,
        coalesce(c.build, r.build) as build,
        coalesce(c.workflow_id, case when octet_length(n.name) <= 255 then n.name else c.child_id::text end) as workflow_id,
        r.leased_by, p.attempt_number as previous, p.kind as recorded_kind, p.seq as recorded_seq, p.status as recorded_status,
        p.awaits as recorded_child, p.output as recorded_output, p.output_encoding as recorded_encoding,
        p.failure as recorded_failure, p.finished_at as recorded_finished_at,
        case
          when r.run_id is null or r.namespace <> c.namespace then 'run_not_found'
          when r.status <> 'RUNNING' or r.lease_token <> c.lease_token then 'lease_lost'
          when not p.is_cut and (p.kind <> 'CHILD' or p.seq <> c.seq) then 'step_mismatch'
          when not p.is_cut and p.status <> 'RUNNING' and p.lease_token = c.lease_token and p.event_seq = c.event_seq then 'arrived'
          when not p.is_cut and (p.status = 'RUNNING' or p.is_arrived) then 'waiting'
          when r.cancel_requested_at is not null and not c.uncancellable then 'cancel_requested'
          when (p.run_id is not null and not p.is_cut) or c.attempt_number <> coalesce(p.attempt_number, 0) + 1 then 'wrong_attempt'
          else 'start'
        end as verdict
      from command c
      left join lateral (select * from perdure.workflow_runs x where x.run_id = c.run_id limit 1) r on true
      left join lateral (
        select * from perdure.step_runs x where x.run_id = c.run_id and x.step_id = c.step_id and x.attempt_key = 0 limit 1) p on true
      -- The child of an earlier attempt may still be open under the name without a number.
      cross join lateral (
        select r.workflow_id || '/' || c.step_id || case when c.attempt_number > 1 then '/' || c.attempt_number else '' end as name) n
    ),
    started as (
      insert into perdure.workflow_runs (run_id, namespace, workflow_id, workflow_type, task_queue, priority, build, status, yield_reason,
        available_at, wake_at, run_deadline_at, execution_timeout_ms, max_lost_leases, created_at, updated_at, input, input_encoding,
        parent_run_id, parent_step_id, parent_close)
      select j.child_id, j.namespace, j.workflow_id, j.workflow_type, j.task_queue, j.priority, j.build,
        case when j.start_delay_ms > 0 then 'SLEEPING' else 'PENDING' end,
        case when j.start_delay_ms > 0 then 'START_DELAY' end,
        case when j.start_delay_ms = 0 then perdure.clock() end,
        case when j.start_delay_ms > 0 then perdure.clock() + j.start_delay_ms * interval '1 ms' end,
        case when j.run_timeout_ms > 0 then perdure.clock() + j.run_timeout_ms * interval '1 ms' end,
        j.execution_timeout_ms, j.max_lost_leases, perdure.clock(), perdure.clock(), j.input, j.input_encoding,
        j.run_id, j.step_id, j.parent_close
      from judged j
      where j.verdict = 'start'
        and (j.reuse_policy = 'ALLOW' or not exists (
          select 1 from perdure.workflow_runs e
          where e.namespace = j.namespace and e.workflow_id = j.workflow_id
            and (j.reuse_policy = 'REJECT'
              or (j.reuse_policy = 'ALLOW_IF_FAILED' and e.status = 'COMPLETED'
                and e.run_id = (select max(x.run_id::text)::uuid from perdure.workflow_runs x
                  where x.namespace = j.namespace and x.workflow_id = j.workflow_id)))))
      -- In the order in which other starts insert, so that no two wait for each other.
      order by j.workflow_id, j.namespace
      on conflict do nothing
      returning run_id
    ),
    replaced as (
      update perdure.step_runs s set is_latest = false
      from judged j
      where j.verdict = 'start' and j.previous is not null
        and s.run_id = j.run_id and s.step_id = j.step_id and s.attempt_number = j.previous and s.attempt_key = 0
      returning 1
    ),
    begun as (
      insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
        lease_token, worker_id, started_at, finished_at, event_seq, awaits, failure)
      select j.run_id, j.step_id, j.attempt_number, j.seq, 'CHILD', case when d.run_id is null then 'FAILED' else 'RUNNING' end, true, 1, 1,
        j.lease_token, j.leased_by, perdure.clock(), case when d.run_id is null then perdure.clock() end,
        case when d.run_id is null then j.event_seq end, case when d.run_id is not null then j.child_id::text end,
        case when d.run_id is null then jsonb_build_object('type', 'WorkflowAlreadyExistsError', 'reason', 'CHILD_NOT_STARTED', 'message',
          format('The child run of step %L was not started: its workflow id %L is used by an open run, or its reuse policy (%s) forbids it. '
            'Give the child another workflowId, or end the other run first.', j.step_id, j.workflow_id, j.reuse_policy)) end
      from judged j
      left join started d on d.run_id = j.child_id
      -- Reading the count makes the insert wait for the update: both touch the same unique index.
      where j.verdict = 'start' and (select count(*) from replaced) >= 0
      returning run_id, step_id, attempt_number, status, awaits, failure, finished_at
    ),
    noted as (
      update perdure.workflow_runs r set has_children = true
      where r.run_id in (select j.run_id from judged j where j.verdict = 'start') and r.has_children is null
      returning 1
    )
    select j.ord::int,
      case when j.verdict <> 'start' then j.verdict when d.status = 'RUNNING' then 'started' else 'arrived' end,
      coalesce(d.attempt_number, j.previous, 0), coalesce(d.awaits, case when j.verdict <> 'start' then j.recorded_child end), j.task_queue,
      coalesce(d.status, j.recorded_status, 'none'), case when j.verdict = 'arrived' then j.recorded_output end,
      case when j.verdict = 'arrived' then j.recorded_encoding end,
      coalesce(d.failure, case when j.verdict = 'arrived' then j.recorded_failure end), coalesce(d.finished_at, j.recorded_finished_at),
      j.recorded_kind, j.recorded_seq
    from judged j
    left join begun d on d.run_id = j.run_id and d.step_id = j.step_id
    order by j.ord;
  end $$;

-- Ends the steps of parents whose children have ended, and wakes the parents. One row per parent that has something to take. A step that waits for the first
-- run of a chain waits for the end of the chain; the columns of chains come with a later migration.
create function perdure.tell_parents(child_ids uuid[])
  returns table (run_id uuid, namespace text, woken boolean, task_queue text, workflow_type text, leased_by uuid, lease_token integer,
    wake_in_ms float8)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  begin
    perform perdure.lock_runs((
      select array_agg(c.parent_run_id) from perdure.workflow_runs c
      where c.run_id = any(child_ids) and c.finished_at is not null and c.status <> 'CONTINUED' and c.parent_run_id is not null));
    return query
    with child as materialized (
      select * from perdure.workflow_runs c
      where c.run_id = any(child_ids) and c.finished_at is not null and c.status <> 'CONTINUED' and c.parent_run_id is not null
    ),
    ended as (
      update perdure.step_runs s
      set status = case when c.status = 'COMPLETED' then 'COMPLETED' else 'FAILED' end, finished_at = perdure.clock(), is_arrived = true,
        output = c.output, output_encoding = c.output_encoding,
        failure = case when c.status <> 'COMPLETED' then jsonb_build_object(
            'type', case c.status when 'FAILED' then 'ChildFailedError' when 'CANCELLED' then 'ChildCancelledError' else 'ChildTerminatedError' end,
            'reason', 'CHILD_' || c.status, 'message', format('Child run %s (workflow %L, id %L) %s%s', c.run_id, c.workflow_type, c.workflow_id,
              case c.status when 'FAILED' then 'failed' when 'CANCELLED' then 'was cancelled' else 'was terminated' end,
              case when c.status = 'FAILED' then coalesce(': ' || left(c.failure->>'message', 10000), '.')
                when coalesce(c.cancel_reason, '') <> '' and c.status = 'CANCELLED' then ': ' || c.cancel_reason else '.' end),
            'child', jsonb_build_object('runId', c.run_id, 'workflowId', c.workflow_id, 'workflowType', c.workflow_type))
          || case when c.failure is null then '{}'::jsonb else jsonb_build_object('cause', c.failure) end end
      from child c
      cross join lateral (
        select x.ctid as step_at, x.status, x.kind, x.awaits from perdure.step_runs x
        where x.run_id = c.parent_run_id and x.step_id = c.parent_step_id and x.attempt_key = 0 limit 1) p
      where p.status = 'RUNNING' and p.kind = 'CHILD' and p.awaits = coalesce(c.first_run_id, c.run_id)::text and s.ctid = p.step_at
      returning s.run_id
    ),
    total as materialized (select e.run_id, count(*)::int as ends from ended e group by e.run_id),
    -- A parent that awaits several children wakes when all have ended, or a while after the first end: the more are left, the later.
    -- So n ends at any rate wake it about 20 * ln(n) times at most, and not n times.
    decided as materialized (
      select t.run_id, t.ends, greatest(coalesce(r.children_awaited, 1) - t.ends, 0) as left_over,
        r.status = 'WAITING' and coalesce(r.children_awaited, 1) <= t.ends as wakes,
        case when r.status = 'WAITING' and r.children_awaited > t.ends then least(coalesce(r.wake_at, 'infinity'),
          perdure.clock() + least(50 + 0.05 * (r.children_awaited - t.ends), 1000) * interval '1 ms') end as wake_at
      from total t
      cross join lateral (select * from perdure.workflow_runs x where x.run_id = t.run_id limit 1) r
    ),
    changed as (
      update perdure.workflow_runs r
      set has_arrivals = true, children_awaited = case when d.left_over > 0 then d.left_over end,
        status = case when d.wakes then 'PENDING' else r.status end,
        available_at = case when d.wakes then perdure.clock() else r.available_at end,
        wake_at = case when d.wakes then null else coalesce(d.wake_at, r.wake_at) end,
        waits = case when d.wakes then null else r.waits end,
        updated_at = case when d.wakes then perdure.clock() else r.updated_at end
      from decided d
      where r.run_id = d.run_id
      returning r.run_id, r.namespace, d.wakes, r.task_queue, r.workflow_type, r.leased_by, r.lease_token, d.wake_at
    )
    select c.run_id, c.namespace, c.wakes, c.task_queue, c.workflow_type, c.leased_by, c.lease_token,
      (extract(epoch from c.wake_at - perdure.clock()) * 1000)::float8
    from changed c;
  end $$;

-- As cut_steps; and children that failed at the place or later are started again: they are cut, so that another attempt may follow.
create function perdure.cut_run(retried_run uuid, cut_lease integer, cut_event integer, cut_seq integer) returns void
  language plpgsql volatile
  as $$ begin
    perform perdure.cut_steps(retried_run, cut_lease, cut_event, cut_seq);
    update perdure.step_runs s set is_cut = true, next_retry_at = null
    where s.run_id = retried_run and s.kind = 'CHILD' and s.status = 'FAILED' and s.is_latest and not s.is_cut
      and (s.lease_token, s.event_seq) >= (cut_lease, cut_event);
  end $$;
`;
