/** A person retries a run that has ended without a result, also one of which a compensation has failed. */
export const redrives = `
-- Compensations that have failed for good may be followed by another attempt: those that the run names. A run that has lost its worker while it was
-- compensated names none: its replay finds them failed, and names them when it ends again. Bodies that were open may be followed by another attempt as well;
-- the code's own are left to the worker, which does not execute them. Waits of the code stay ended, and nothing is cut: the code ends as before.
create function perdure.reopen_compensations(retried_run uuid, failed jsonb) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.step_runs s
    set next_retry_at = perdure.clock()
    where s.run_id = retried_run and s.attempt_key = 0 and s.status = 'FAILED' and s.next_retry_at is null and not s.is_cut
      and s.step_id in (select f->>'stepId' from jsonb_array_elements(coalesce(failed, '[]')) f);
    update perdure.step_runs s
    set status = 'FAILED', next_retry_at = perdure.clock(), failure = coalesce(s.failure, jsonb_build_object('type', 'WorkerLostError',
      'reason', 'WORKER_LOST', 'message', 'The run ended while this attempt of the step was open.'))
    where s.run_id = retried_run and s.attempt_key = 0 and s.status = 'CANCELLED' and not s.is_cut and s.event_seq is null
      and s.kind <> 'SLEEP' and s.awaits is null;
  end $$;

-- Retries one run. The lock of its workflow id comes first, as in starts with a reuse policy. A run that was compensated in part continues to be compensated: its
-- cancel request stays, and with it the place at which the code has learned of it.
create or replace function perdure.retry_run(retried_run uuid, in_namespace text, by_actor text, for_reason text, request text)
  returns table (verdict text, status text, task_queue text, workflow_type text, other_run_id uuid, expires_in_ms float8)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    run perdure.workflow_runs;
    cut record;
    is_redriven boolean;
  begin
    perform pg_advisory_xact_lock(hashtextextended(r.namespace || E'\\n' || r.workflow_id, 7300))
    from perdure.workflow_runs r where r.run_id = retried_run and r.namespace = in_namespace;
    select r.* into run
    from perdure.workflow_runs r where r.run_id = retried_run and r.namespace = in_namespace for no key update;
    if not found or run.deleting_at is not null then
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
    if run.compensation = 'COMPLETE' then
      return query select 'compensated', run.status, null, null, null::uuid, null::float8;
      return;
    end if;
    is_redriven := run.compensation is not null;
    if run.has_children or exists (select 1 from perdure.child_ends e where e.child_id = retried_run) then
      return query select 'has_open_ends', run.status, null, null, null::uuid, null::float8;
      return;
    end if;
    select * into cut from perdure.retry_cut(retried_run);
    begin
      update perdure.workflow_runs r
      set status = 'PENDING', available_at = perdure.clock(), finished_at = null, yield_reason = 'RUN_RETRY', attempt = r.attempt + 1,
        retries = 0, lost_leases = 0, counted_losses = 0, failure = null, end_cut = null,
        compensation = case when is_redriven then 'COMPENSATING' end,
        cancel_requested_at = case when is_redriven then r.cancel_requested_at end, cancel_reason = case when is_redriven then r.cancel_reason end,
        cancel_lease_token = case when is_redriven then r.cancel_lease_token end, cancel_event_seq = case when is_redriven then r.cancel_event_seq end,
        suspended_by = null, paused_at = null, arrivals_awaited = 1, children_awaited = null,
        run_deadline_at = case when not is_redriven then perdure.clock() + (r.run_deadline_at - coalesce(r.reopened_at, r.created_at)) end,
        execution_deadline_at = null, reopened_at = perdure.clock(), updated_at = perdure.clock()
      where r.run_id = retried_run;
    exception when unique_violation then
      return query
      select 'workflow_id_taken', run.status, null, null, (
        select r.run_id from perdure.workflow_runs r
        where r.namespace = run.namespace and r.workflow_id = run.workflow_id and r.finished_at is null), null::float8;
      return;
    end;
    -- The limits of runs come with a later migration. No timeout ends a run that is compensated.
    if not is_redriven then perform perdure.renew_limits(retried_run, retried_run); end if;
    if run.paused_at is not null then perform perdure.end_pause(retried_run, by_actor); end if;
    -- Who sent them was told that the run has ended: they must not be carried out now.
    update perdure.run_updates u
    set answer = 'REFUSED', answered_at = perdure.clock(), failure = jsonb_build_object('type', 'UpdateRefusedError',
      'reason', 'UPDATE_REFUSED', 'message', 'The run had ended before it received the update. It was retried afterwards.')
    where u.run_id = retried_run and u.step_id is null and u.answer is null;
    if is_redriven then
      perform perdure.reopen_compensations(retried_run, run.failure->'compensation'->'failed');
    else
      perform perdure.cut_run(retried_run, cut.from_lease, cut.from_event, cut.last_seq);
      perform perdure.free_updates(retried_run, cut.last_seq);
      perform perdure.reopen_steps(retried_run);
    end if;
    perform perdure.note_action(retried_run, 'RETRY', by_actor, for_reason, request, jsonb_strip_nulls(jsonb_build_object(
      'status', run.status, 'finishedAt', run.finished_at, 'failure', run.failure, 'cancelReason', run.cancel_reason,
      'compensation', run.compensation)));
    return query
    select 'retried', 'PENDING', run.task_queue, run.workflow_type, null::uuid,
      case when not is_redriven
        then (extract(epoch from run.run_deadline_at - coalesce(run.reopened_at, run.created_at)) * 1000)::float8 end;
  end $$;
`;
