/**
 * The functions that take back a part of a memo, for runs of thousands of steps: one pass over the steps of the run, and rows of other tables by key. A
 * join of the steps of one run with themselves, or with its messages, was planned as if a run had a handful of them: a retry of 5,000 steps took minutes.
 */
export const cuts = `
-- As before, in one pass; and a signal that a fork has taken over has its payload with the step that had received it.
create or replace function perdure.cut_steps(retried_run uuid, cut_lease integer, cut_event integer, cut_seq integer) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.signals g
    set consumed_by = null, payload = coalesce(g.payload, perdure.borrowed_output(t.payload_run_id, t.step_id, t.payload_attempt))
    from (
      select x.run_id, x.seq, s.step_id, s.payload_run_id, s.payload_attempt
      from perdure.step_runs s
      -- With a limit, so that it is looked up by key whatever the planner knows of the run.
      cross join lateral (select y.run_id, y.seq from perdure.signals y where y.run_id = retried_run and y.consumed_by = s.step_id limit 1) x
      where s.run_id = retried_run and s.seq > cut_seq and s.kind = 'SIGNAL' and not s.is_cut and s.is_latest) t
    where g.run_id = t.run_id and g.seq = t.seq;
    update perdure.step_runs s
    set is_cut = coalesce(s.seq > cut_seq, false),
      is_arrived = s.is_arrived and not coalesce(s.seq > cut_seq, false),
      status = case when s.status <> 'RUNNING' then s.status when s.kind <> 'SLEEP' and s.awaits is null then 'FAILED' else 'CANCELLED' end,
      finished_at = coalesce(s.finished_at, perdure.clock()),
      deadline_at = null,
      next_retry_at = case when not coalesce(s.seq > cut_seq, false) and s.is_latest then perdure.clock() end,
      failure = case when s.status = 'RUNNING' and s.kind <> 'SLEEP' and s.awaits is null then jsonb_build_object('type', 'WorkerLostError',
        'reason', 'WORKER_LOST', 'message', 'The attempt of the run ended while this attempt of the step was open.') else s.failure end
    where s.run_id = retried_run and not s.is_cut and (
      s.seq > cut_seq
      or (s.is_latest and s.status = 'RUNNING' and s.kind <> 'SLEEP' and s.awaits is null)
      or (s.is_latest and s.status = 'FAILED' and s.next_retry_at is null and s.awaits is null
        and (s.lease_token, s.event_seq) >= (cut_lease, cut_event)));
  end $$;

-- As before; and what has no body of its own, and was failed by hand at the place or later, begins again like a child that failed there.
create or replace function perdure.cut_run(retried_run uuid, cut_lease integer, cut_event integer, cut_seq integer) returns void
  language plpgsql volatile
  as $$ begin
    perform perdure.cut_steps(retried_run, cut_lease, cut_event, cut_seq);
    update perdure.step_runs s set is_cut = true, next_retry_at = null
    where s.run_id = retried_run and s.status = 'FAILED' and s.is_latest and not s.is_cut
      and (s.kind = 'CHILD' or (s.action_seq is not null and (s.awaits is not null or s.kind = 'SLEEP')))
      and (s.lease_token, s.event_seq) >= (cut_lease, cut_event);
  end $$;

-- As before, by key; and an update that a fork has taken over has its payload with the step that had received it.
create or replace function perdure.free_updates(retried_run uuid, cut_seq integer) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.run_updates u
    set step_id = null, payload = coalesce(u.payload, perdure.borrowed_output(t.payload_run_id, t.step_id, t.payload_attempt))
    from (
      select x.run_id, x.seq, s.step_id, s.payload_run_id, s.payload_attempt
      from perdure.step_runs s
      cross join lateral (select y.run_id, y.seq from perdure.run_updates y where y.run_id = retried_run and y.step_id = s.step_id limit 1) x
      where s.run_id = retried_run and s.seq > cut_seq and s.kind = 'UPDATE' and s.is_latest) t
    where u.run_id = t.run_id and u.seq = t.seq;
  end $$;

-- As before, in one pass. Timers continue to their time. A body that had begun may be followed by another attempt, unless it is executed at most once; a
-- step that was cancelled before it began has both times from one statement. Everything else is cut, so that the code begins it again.
create or replace function perdure.reopen_steps(retried_run uuid) returns void
  language plpgsql volatile
  as $$ begin
    update perdure.step_runs s
    set status = 'RUNNING', finished_at = null, event_seq = null
    where s.run_id = retried_run and s.attempt_key = 0 and s.status = 'CANCELLED' and not s.is_cut
      and s.kind = 'SLEEP' and s.fires_at > s.finished_at;
    update perdure.step_runs s
    set status = 'FAILED', next_retry_at = perdure.clock(), failure = coalesce(s.failure, jsonb_build_object('type', 'WorkerLostError',
      'reason', 'WORKER_LOST', 'message', 'The run ended while this attempt of the step was open.'))
    where s.run_id = retried_run and s.attempt_key = 0 and s.status = 'CANCELLED' and not s.is_cut
      and s.kind <> 'SLEEP' and s.awaits is null and (s.failure is not null or s.finished_at > s.started_at);
    update perdure.step_runs s
    set is_cut = true
    where s.run_id = retried_run and s.attempt_key = 0 and s.status = 'CANCELLED' and not s.is_cut;
  end $$;
`;
