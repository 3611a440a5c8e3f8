/** A person gives a step its outcome. */
export const stepsByHand = `
-- Ends one step of a run: what it has waited for, or what its body was to bring, is decided by a person. The outcome arrives, as everything
-- from outside does: the worker takes it, and with that it gets its place in the order of results (decision 0030). An attempt under way ends
-- with it; after an attempt that has ended, the outcome is an attempt of its own. In a run that has ended the outcome is kept for its retry.
create function perdure.end_step(ended_run uuid, in_namespace text, ended_step text, new_status text, new_output bytea, new_encoding text,
    new_failure jsonb, by_actor text, for_reason text, request text)
  returns table (verdict text, run_status text, step_status text, step_kind text, attempt_number integer, closes_children boolean,
    woken boolean, task_queue text, workflow_type text, leased_by uuid, lease_token integer)
  language plpgsql volatile
  as $$
  #variable_conflict use_column
  declare
    run perdure.workflow_runs;
    step perdure.step_runs;
    cut_lease integer;
    cut_event integer;
    cut_seq integer;
    is_seen boolean;
    action integer;
    wakes boolean;
  begin
    select r.* into run
    from perdure.workflow_runs r where r.run_id = ended_run and r.namespace = in_namespace for no key update;
    if not found or run.deleting_at is not null then
      verdict := 'run_not_found';
      return next;
      return;
    end if;
    run_status := run.status;
    select s.* into step from perdure.step_runs s where s.run_id = ended_run and s.step_id = ended_step and s.attempt_key = 0;
    step_status := step.status;
    step_kind := step.kind;
    attempt_number := step.attempt_number;
    verdict := case
      when exists (select 1 from perdure.run_actions a where a.run_id = ended_run and a.request_id = request) then 'already_ended'
      when run.status in ('COMPLETED', 'CONTINUED') or (run.finished_at is not null and run.compensation = 'COMPLETE') then 'wrong_state'
      when step.run_id is null then 'step_not_found'
      when step.is_cut then 'taken_back'
      when step.kind = 'UPDATE' then 'wrong_kind'
      when step.kind = 'SLEEP' and new_encoding is not null then 'no_result'
    end;
    if verdict is not null then
      return next;
      return;
    end if;

    if run.finished_at is not null then
      -- A retry goes back to this place: what the code was given before it stays, and what it requested after it is taken back.
      -- A run that was compensated in part is not cut: a retry executes the compensations again that have failed.
      if run.compensation is null then
        select c.from_lease, c.from_event, c.last_seq into cut_lease, cut_event, cut_seq from perdure.retry_cut(ended_run) c;
      end if;
      if step.seq > cut_seq then
        verdict := 'taken_back';
        return next;
        return;
      end if;
      is_seen := step.status not in ('RUNNING', 'FAILED', 'CANCELLED') or step.is_arrived
        or (step.event_seq is not null and step.next_retry_at is null
          and coalesce((step.lease_token, step.event_seq) < (cut_lease, cut_event), true)
          and not coalesce(run.failure->'compensation'->'failed' @> jsonb_build_array(jsonb_build_object('stepId', ended_step)), false));
    else
      is_seen := step.is_arrived or not (step.status = 'RUNNING' or (step.status = 'FAILED' and step.next_retry_at is not null));
    end if;
    if is_seen then
      verdict := 'step_ended';
      return next;
      return;
    end if;

    perform perdure.note_action(ended_run,
      case new_status when 'COMPLETED' then 'COMPLETE_STEP' when 'FAILED' then 'FAIL_STEP' else 'SKIP_STEP' end, by_actor, for_reason, request,
      jsonb_build_object('stepId', ended_step));
    select max(a.seq) into action from perdure.run_actions a where a.run_id = ended_run;
    if step.status = 'RUNNING' then
      update perdure.step_runs s
      set status = new_status, output = new_output, output_encoding = new_encoding, failure = new_failure, finished_at = perdure.clock(),
        deadline_at = null, is_arrived = true, action_seq = action
      where s.run_id = ended_run and s.step_id = ended_step and s.attempt_key = 0;
    else
      update perdure.step_runs s set is_latest = false where s.run_id = ended_run and s.step_id = ended_step and s.attempt_key = 0;
      attempt_number := attempt_number + 1;
      insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
        lease_token, started_at, finished_at, fires_at, awaits, output, output_encoding, failure, is_arrived, action_seq)
      values (ended_run, ended_step, attempt_number, step.seq, step.kind, new_status, true, step.counted_attempt, step.max_counted_attempts,
        step.lease_token, perdure.clock(), perdure.clock(), step.fires_at, step.awaits, new_output, new_encoding, new_failure, true, action);
    end if;

    wakes := run.status in ('SLEEPING', 'WAITING') and run.yield_reason = 'SUSPEND';
    update perdure.workflow_runs r
    set has_arrivals = true,
      status = case when wakes then 'PENDING' else r.status end,
      available_at = case when wakes then perdure.clock() else r.available_at end,
      wake_at = case when wakes then null else r.wake_at end,
      waits = case when wakes then null else r.waits end,
      -- The failure from which it would follow is no longer the latest attempt of its step.
      end_cut = case when run.finished_at is null or r.end_cut is not null or cut_lease is null then r.end_cut
        else jsonb_build_object('leaseToken', cut_lease, 'eventSeq', cut_event, 'seq', cut_seq) end,
      updated_at = perdure.clock()
    where r.run_id = ended_run;
    closes_children := step.kind = 'CHILD' and step.status = 'RUNNING';
    if closes_children then
      insert into perdure.child_cuts as m (run_id, cut_at, mark) values (ended_run, perdure.clock(), gen_random_uuid())
      on conflict (run_id) do update set cut_at = excluded.cut_at, mark = excluded.mark;
    end if;
    verdict := 'ended';
    step_status := new_status;
    woken := wakes;
    task_queue := run.task_queue;
    workflow_type := run.workflow_type;
    leased_by := run.leased_by;
    lease_token := run.lease_token;
    return next;
  end $$;
`;
