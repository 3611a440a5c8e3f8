/** Runs that wake are leased at once to the worker that keeps them in memory, when it waits for runs (decision 0025). */
export const keepers = `
-- Leases runs that a worker keeps in memory to that worker, as the claim does, in the transaction that has locked them and has made them
-- claimable. A run is left as it is when it is not claimable, when another worker may have its code, when the worker gets no more runs, or
-- when the run, its queue or its type is paused (see 0006-pauses.ts). A pause is read after the runs were locked: whoever waits here for a
-- pause to commit waits for nothing else. suspended_by says that the run was woken and not claimed since, so it is available; available_at may
-- be later than the clock of a statement that has waited for the lock while another one has woken the run.
-- The column compensation comes with a later migration. What has arrived is taken: one row for each outcome, at least one for each leased run. ord: the place in the arrays.
create function perdure.lease_to_keepers(runs uuid[], keepers uuid[], max_entries integer, max_bytes float8)
  returns table (ord integer, now timestamptz, lease_ms integer, run_id uuid, namespace text, workflow_id text, workflow_type text, build text,
    lease_token integer, attempt integer, retries integer, lost_leases integer, cancel_requested_at timestamptz, cancel_lease_token integer,
    cancel_event_seq integer, compensation text, created_at timestamptz, started_at timestamptz, run_deadline_at timestamptz, execution_deadline_at timestamptz,
    input bytea, input_encoding text, nth integer, arrived integer, step_id text, seq integer, kind text, attempt_number integer, status text,
    output bytea, output_encoding text, failure jsonb, finished_at timestamptz, fires_at timestamptz,
    update_name text, update_request_id text, update_sender text, update_answer text)
  -- Strict: not called without runs, which is how a statement that has changed nothing calls it.
  language plpgsql volatile strict
  as $$
  #variable_conflict use_column
  begin
    return query
    with pause as materialized (
      select p.namespace, p.kind, p.name from perdure.dispatch_pauses p
      where exists (select 1 from perdure.workers w where w.worker_id = any(keepers) and w.namespace = p.namespace
        and (p.kind = 'WORKFLOW_TYPE' or p.name = w.task_queue))
      for key share
    ),
    leased as (
      update perdure.workflow_runs r
      set status = 'RUNNING', lease_token = r.lease_token + 1, leased_by = w.worker_id,
        lease_expires_at = perdure.clock() + w.lease_ms * interval '1 ms', available_at = null, suspended_by = null,
        started_at = coalesce(r.started_at, perdure.clock()), has_arrivals = false,
        last_take = case when r.has_arrivals then (r.lease_token + 1)::bigint * 4294967296 + 1 else r.last_take end,
        execution_deadline_at = case when r.execution_timeout_ms > 0 and r.compensation is distinct from 'COMPENSATING'
          then coalesce(r.execution_deadline_at, perdure.clock() + r.execution_timeout_ms * interval '1 ms') end,
        updated_at = perdure.clock()
      from unnest(runs, keepers) with ordinality as k(run_id, worker_id, ord)
      join perdure.workers w on w.worker_id = k.worker_id and w.status = 'ONLINE'
      where r.run_id = k.run_id and r.status = 'PENDING' and r.paused_at is null and r.suspended_by = k.worker_id and not r.suspect
        and w.namespace = r.namespace and w.task_queue = r.task_queue
        and not exists (select 1 from pause p where p.namespace = r.namespace
          and p.name = case p.kind when 'TASK_QUEUE' then r.task_queue else r.workflow_type end)
      returning k.ord::int, w.lease_ms, r.run_id, r.namespace, r.workflow_id, r.workflow_type, r.build, r.lease_token, r.attempt, r.retries,
        r.lost_leases, r.cancel_requested_at, r.cancel_lease_token, r.cancel_event_seq, r.compensation, r.created_at, r.started_at, r.run_deadline_at,
        r.execution_deadline_at, r.input, r.input_encoding, r.last_take = r.lease_token::bigint * 4294967296 + 1 as had_arrivals
    )
    select l.ord, perdure.clock(), l.lease_ms, l.run_id, l.namespace, l.workflow_id, l.workflow_type, l.build, l.lease_token, l.attempt,
      l.retries, l.lost_leases, l.cancel_requested_at, l.cancel_lease_token, l.cancel_event_seq, l.compensation, l.created_at, l.started_at,
      l.run_deadline_at, l.execution_deadline_at, l.input, l.input_encoding, a.nth, a.arrived, a.step_id, a.seq, a.kind, a.attempt_number,
      a.status, a.output, a.output_encoding, a.failure, a.finished_at, a.fires_at, u.name, u.request_id, u.sender, u.answer
    from leased l
    left join lateral perdure.take_claimed(case when l.had_arrivals then l.run_id end, l.lease_token, max_entries, max_bytes) a on true
    left join lateral (
      select * from perdure.run_updates x where a.kind = 'UPDATE' and x.run_id = l.run_id and x.step_id = a.step_id limit 1) u on true;
  end $$;
`;
