/** A person retries a run that has ended without a result: the memo is cut where it went wrong, and the run continues from there. */
export const retries = `
-- The place that a retry of an ended run goes back to; no row: the memo is kept whole. Workers send it with the end. When the run ended
-- without its worker, it is the place of the cancel request, or of the failure that the run blames. How many steps the code had requested
-- there is not known then: those whose results it had been given, at least.
create function perdure.retry_cut(retried_run uuid)
  returns table (from_lease integer, from_event integer, last_seq integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    run record;
    place record;
  begin
    select r.end_cut, r.cancel_lease_token, r.cancel_event_seq, r.failure->>'stepId' as blamed_step into run
    from perdure.workflow_runs r where r.run_id = retried_run;
    if run.end_cut is not null then
      return query
      select (run.end_cut->>'leaseToken')::int, (run.end_cut->>'eventSeq')::int, (run.end_cut->>'seq')::int;
      return;
    end if;
    select p.lease_token, p.event_seq, p.seq into place
    from (
      select run.cancel_lease_token, run.cancel_event_seq, 0 where run.cancel_event_seq is not null
      union all
      select s.lease_token, s.event_seq, s.seq from perdure.step_runs s
      where s.run_id = retried_run and s.step_id = run.blamed_step and s.attempt_key = 0 and s.status = 'FAILED'
        and s.event_seq is not null and not s.is_cut
    ) p(lease_token, event_seq, seq)
    order by p.lease_token, p.event_seq limit 1;
    if not found then return; end if;
    return query
    select place.lease_token::int, place.event_seq::int, greatest(place.seq, coalesce(max(s.seq), 0))::int
    from perdure.step_runs s
    where s.run_id = retried_run and s.attempt_key = 0 and not s.is_cut and s.event_seq is not null
      and (s.lease_token, s.event_seq) < (place.lease_token, place.event_seq);
  end $$;

-- Undoes, in what a cut has kept, the ends of steps that were not their own: the run's end, or its cancel request, had ended them.
-- Timers continue to their time. A body that had begun may be followed by another attempt, unless it is executed at most once. Everything
-- else is cut, so that the code begins it again.
create function perdure.reopen_steps(retried_run uuid) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.step_runs s
    set status = case t.becomes when 'timer' then 'RUNNING' when 'body' then 'FAILED' else s.status end,
      finished_at = case when t.becomes <> 'timer' then s.finished_at end,
      event_seq = case when t.becomes <> 'timer' then s.event_seq end,
      next_retry_at = case when t.becomes = 'body' then perdure.clock() end,
      failure = case when t.becomes = 'body' then coalesce(s.failure, jsonb_build_object('type', 'WorkerLostError',
        'reason', 'WORKER_LOST', 'message', 'The run ended while this attempt of the step was open.')) else s.failure end,
      is_cut = t.becomes = 'cut'
    from (
      select x.step_id, case
        when x.kind = 'SLEEP' and x.fires_at > x.finished_at then 'timer'
        -- A step that was cancelled before it began has both times from one statement.
        when x.kind <> 'SLEEP' and x.awaits is null and (x.failure is not null or x.finished_at > x.started_at) then 'body'
        else 'cut' end as becomes
      from perdure.step_runs x
      where x.run_id = retried_run and x.attempt_key = 0 and x.status = 'CANCELLED' and not x.is_cut
    ) t
    where s.run_id = retried_run and s.step_id = t.step_id and s.attempt_key = 0;
  end $$;

-- Retries one run. The lock of its workflow id comes first, as in starts with a reuse policy.
create function perdure.retry_run(retried_run uuid, in_namespace text, by_actor text, for_reason text, request text)
  returns table (verdict text, status text, task_queue text, workflow_type text, other_run_id uuid, expires_in_ms float8)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    run record;
    cut record;
  begin
    perform pg_advisory_xact_lock(hashtextextended(r.namespace || E'\\n' || r.workflow_id, 7300))
    from perdure.workflow_runs r where r.run_id = retried_run and r.namespace = in_namespace;
    select r.* into run
    from perdure.workflow_runs r where r.run_id = retried_run and r.namespace = in_namespace for no key update;
    if not found then
      return query select 'run_not_found', null, null, null, null::uuid, null::float8;
      return;
    end if;
    if exists (select 1 from perdure.run_actions a where a.run_id = retried_run and a.request_id = request) then
      return query select 'already_retried', run.status, run.task_queue, run.workflow_type, null::uuid, null::float8;
      return;
    end if;
    if run.status not in ('FAILED', 'CANCELLED', 'TERMINATED') then
      return query select 'wrong_state', run.status, null, null, null::uuid, null::float8;
      return;
    end if;
    if run.has_children or exists (select 1 from perdure.child_ends e where e.child_id = retried_run) then
      return query select 'has_open_ends', run.status, null, null, null::uuid, null::float8;
      return;
    end if;
    select * into cut from perdure.retry_cut(retried_run);
    begin
      update perdure.workflow_runs r
      set status = 'PENDING', available_at = perdure.clock(), finished_at = null, yield_reason = 'RUN_RETRY', attempt = r.attempt + 1,
        retries = 0, lost_leases = 0, counted_losses = 0, failure = null, end_cut = null, cancel_requested_at = null, cancel_reason = null,
        cancel_lease_token = null, cancel_event_seq = null, suspended_by = null, paused_at = null, arrivals_awaited = 1, children_awaited = null,
        run_deadline_at = perdure.clock() + (r.run_deadline_at - coalesce(r.reopened_at, r.created_at)), execution_deadline_at = null,
        reopened_at = perdure.clock(), updated_at = perdure.clock()
      where r.run_id = retried_run;
    exception when unique_violation then
      return query
      select 'workflow_id_taken', run.status, null, null, (
        select r.run_id from perdure.workflow_runs r
        where r.namespace = run.namespace and r.workflow_id = run.workflow_id and r.finished_at is null), null::float8;
      return;
    end;
    if run.paused_at is not null then perform perdure.end_pause(retried_run, by_actor); end if;
    -- Who sent them was told that the run has ended: they must not be carried out now.
    update perdure.run_updates u
    set answer = 'REFUSED', answered_at = perdure.clock(), failure = jsonb_build_object('type', 'UpdateRefusedError',
      'reason', 'UPDATE_REFUSED', 'message', 'The run had ended before it received the update. It was retried afterwards.')
    where u.run_id = retried_run and u.step_id is null and u.answer is null;
    perform perdure.cut_run(retried_run, cut.from_lease, cut.from_event, cut.last_seq);
    perform perdure.free_updates(retried_run, cut.last_seq);
    perform perdure.reopen_steps(retried_run);
    perform perdure.note_action(retried_run, 'RETRY', by_actor, for_reason, request, jsonb_strip_nulls(jsonb_build_object(
      'status', run.status, 'finishedAt', run.finished_at, 'failure', run.failure, 'cancelReason', run.cancel_reason)));
    return query
    select 'retried', 'PENDING', run.task_queue, run.workflow_type, null::uuid,
      (extract(epoch from run.run_deadline_at - coalesce(run.reopened_at, run.created_at)) * 1000)::float8;
  end $$;
`;
