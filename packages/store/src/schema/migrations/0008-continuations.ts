/** The code of a run ends it and continues as another run, in one commit. */
export const continuations = `
-- Ends runs as CONTINUED and starts their successors, with the same workflow ids. What nobody has received moves along: signals and
-- updates; so do the state, the parent, a cancel request, and a pause. Request ids of the last minutes are remembered by the successor, so that a
-- repeat does nothing twice.
create function perdure.continue_runs(run_ids uuid[], namespaces text[], lease_tokens integer[], new_ids uuid[], inputs bytea[],
    input_encodings text[], task_queues text[], priorities integer[], start_delays_ms bigint[], run_timeouts_ms bigint[],
    execution_timeouts_ms bigint[], have_open_steps boolean[])
  returns table (ord integer, verdict text, next_run_id uuid, task_queue text, workflow_type text, has_children boolean,
    expires_in_ms float8)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    ending bigint[];
  begin
    -- As starts with a reuse policy: one that terminates the open run must not miss the successor.
    perform pg_advisory_xact_lock(k.key) from (
      select distinct hashtextextended(r.namespace || E'\\n' || r.workflow_id, 7300) as key
      from perdure.workflow_runs r where r.run_id = any(run_ids) order by key) k;
    perform perdure.lock_runs(run_ids);
    select coalesce(array_agg(c.ord), '{}') into ending
    from unnest(run_ids, namespaces, lease_tokens) with ordinality as c(run_id, namespace, lease_token, ord)
    join perdure.workflow_runs r on r.run_id = c.run_id
    where r.namespace = c.namespace and r.status = 'RUNNING' and r.lease_token = c.lease_token;

    update perdure.workflow_runs r
    set status = 'CONTINUED', next_run_id = c.new_id, failure = null, leased_by = null, lease_expires_at = null,
      finished_at = perdure.clock(), updated_at = perdure.clock()
    from unnest(run_ids, new_ids) with ordinality as c(run_id, new_id, ord)
    where c.ord = any(ending) and r.run_id = c.run_id;

    perform perdure.cancel_open_steps(c.run_id)
    from unnest(run_ids, have_open_steps) with ordinality as c(run_id, has_open_steps, ord)
    where c.ord = any(ending) and c.has_open_steps;

    -- The old runs have left the index of open runs above, so nothing is in the way; nobody could start the id meanwhile.
    insert into perdure.workflow_runs (run_id, namespace, workflow_id, workflow_type, task_queue, priority, build, status, yield_reason,
      available_at, wake_at, run_deadline_at, execution_timeout_ms, max_lost_leases, created_at, updated_at, input, input_encoding,
      parent_run_id, parent_step_id, parent_close, signal_seq, cancel_requested_at, cancel_reason, paused_at, origin_run_id, origin_kind,
      first_run_id)
    select c.new_id, r.namespace, r.workflow_id, r.workflow_type, coalesce(c.task_queue, r.task_queue), coalesce(c.priority, r.priority),
      r.build, case when d.is_delayed then 'SLEEPING' else 'PENDING' end, case when d.is_delayed then 'START_DELAY' end,
      case when not d.is_delayed then perdure.clock() end,
      case when d.is_delayed then perdure.clock() + c.start_delay_ms * interval '1 ms' end,
      perdure.clock() + case when c.run_timeout_ms is null then r.run_deadline_at - coalesce(r.reopened_at, r.created_at)
        when c.run_timeout_ms > 0 then c.run_timeout_ms * interval '1 ms' end,
      coalesce(c.execution_timeout_ms, r.execution_timeout_ms), r.max_lost_leases, perdure.clock(), perdure.clock(), c.input,
      c.input_encoding, r.parent_run_id, r.parent_step_id, r.parent_close, r.signal_seq, r.cancel_requested_at, r.cancel_reason, r.paused_at,
      r.run_id, 'CONTINUE', coalesce(r.first_run_id, r.run_id)
    from unnest(run_ids, new_ids, inputs, input_encodings, task_queues, priorities, start_delays_ms, run_timeouts_ms,
        execution_timeouts_ms)
      with ordinality as c(run_id, new_id, input, input_encoding, task_queue, priority, start_delay_ms, run_timeout_ms,
        execution_timeout_ms, ord)
    join perdure.workflow_runs r on r.run_id = c.run_id
    cross join lateral (select c.start_delay_ms > 0 and r.cancel_requested_at is null as is_delayed) d
    where c.ord = any(ending)
    order by r.workflow_id, r.namespace;

    insert into perdure.run_pauses (run_id, seq, paused_at, paused_by, reason)
    select c.new_id, 1, p.paused_at, p.paused_by, p.reason
    from unnest(run_ids, new_ids) with ordinality as c(run_id, new_id, ord)
    join perdure.run_pauses p on p.run_id = c.run_id and p.resumed_at is null
    where c.ord = any(ending);

    update perdure.signals s set run_id = c.new_id
    from unnest(run_ids, new_ids) with ordinality as c(run_id, new_id, ord)
    where c.ord = any(ending) and s.run_id = c.run_id and s.consumed_by is null;
    insert into perdure.signals (run_id, sent_at, seq, name, request_id, sender, consumed_by)
    select c.new_id, s.sent_at, s.seq, s.name, s.request_id, s.sender, ''
    from unnest(run_ids, new_ids) with ordinality as c(run_id, new_id, ord)
    join perdure.signals s on s.run_id = c.run_id and s.consumed_by is not null and s.request_id is not null
      and s.sent_at > perdure.clock() - interval '10 minutes'
    where c.ord = any(ending);

    update perdure.run_updates u set run_id = c.new_id
    from unnest(run_ids, new_ids) with ordinality as c(run_id, new_id, ord)
    where c.ord = any(ending) and u.run_id = c.run_id and u.step_id is null and u.answer is null;
    -- No step has such an id.
    insert into perdure.run_updates (run_id, sent_at, answered_at, seq, name, request_id, sender, step_id, answer, output, output_encoding,
      failure)
    select c.new_id, u.sent_at, u.answered_at, u.seq, u.name, u.request_id, u.sender, E'\\n' || u.seq, u.answer, u.output,
      u.output_encoding, u.failure
    from unnest(run_ids, new_ids) with ordinality as c(run_id, new_id, ord)
    join perdure.run_updates u on u.run_id = c.run_id and u.answer is not null and u.sent_at > perdure.clock() - interval '10 minutes'
    where c.ord = any(ending);

    insert into perdure.run_states (run_id, updated_at, place, payload, payload_encoding)
    select c.new_id, s.updated_at, 0, s.payload, s.payload_encoding
    from unnest(run_ids, new_ids) with ordinality as c(run_id, new_id, ord)
    join perdure.run_states s on s.run_id = c.run_id
    where c.ord = any(ending);

    return query
    select c.ord::int,
      case when c.ord = any(ending) then 'continued'
        when r.run_id is null or r.namespace <> c.namespace then 'run_not_found'
        when r.status = 'CONTINUED' and r.lease_token = c.lease_token then 'already_continued'
        else 'lease_lost' end,
      r.next_run_id, n.task_queue, n.workflow_type, coalesce(r.has_children, false),
      (extract(epoch from n.run_deadline_at - perdure.clock()) * 1000)::float8
    from unnest(run_ids, namespaces, lease_tokens) with ordinality as c(run_id, namespace, lease_token, ord)
    left join perdure.workflow_runs r on r.run_id = c.run_id
    left join perdure.workflow_runs n on n.run_id = r.next_run_id
    order by c.ord;
  end $$;

-- The run that a chain has come to: the open one, else the last. Null for a run that was not continued.
create function perdure.chain_end(continued_run uuid) returns uuid
  language sql stable
  as $$
    select coalesce(
      (select x.run_id from perdure.workflow_runs x
        where x.namespace = r.namespace and x.workflow_id = r.workflow_id and x.finished_at is null
          and x.first_run_id = coalesce(r.first_run_id, r.run_id)),
      (select x.run_id from perdure.workflow_runs x
        where x.namespace = r.namespace and x.workflow_id = r.workflow_id and x.status <> 'CONTINUED'
          and x.first_run_id = coalesce(r.first_run_id, r.run_id) order by x.finished_at desc limit 1),
      r.next_run_id)
    from perdure.workflow_runs r where r.run_id = continued_run and r.status = 'CONTINUED'
  $$;
`;
