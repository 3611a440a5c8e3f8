/**
 * One check per hot table instead of 49.
 *
 * PostgreSQL parses and plans every CHECK of a table anew in each statement that writes to it, which took half of the time of a
 * statement that writes one row (decision 0033). Here the check is one call; the function's body is parsed once per connection.
 *
 * Ranges of single columns are left to the server, which refuses bad input. A later migration that changes a rule drops the
 * constraint and the function, and creates both again: `not valid`, because the rows were checked when they were written.
 */
export const cheapChecks = `
lock table perdure.workflow_runs, perdure.step_runs in access exclusive mode;
do $$
declare old record;
begin
  for old in
    select conrelid::regclass as name, conname from pg_constraint
    where contype = 'c' and conrelid in ('perdure.workflow_runs'::regclass, 'perdure.step_runs'::regclass)
  loop
    execute format('alter table %s drop constraint %I', old.name, old.conname);
  end loop;
end $$;

create function perdure.is_valid_run(
  status text, yield_reason text, leased_by uuid, lease_expires_at timestamptz, lease_token integer, available_at timestamptz,
  wake_at timestamptz, waits jsonb, finished_at timestamptz, output bytea, failure jsonb, compensation text, next_run_id uuid,
  parent_run_id uuid, parent_close text, origin_run_id uuid, origin_kind text
) returns boolean language plpgsql immutable parallel safe as $$
begin
  return status in ('PENDING', 'RUNNING', 'SLEEPING', 'WAITING', 'PAUSED',
      'COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'CONTINUED')
    and (yield_reason is null or yield_reason in
      ('START_DELAY', 'SUSPEND', 'RELEASE', 'RUN_RETRY', 'RECLAIM', 'STEP_TIMEOUT', 'HOLD'))
    and (status = 'PENDING') = (available_at is not null)
    and (status = 'RUNNING') = (leased_by is not null)
    and (status = 'RUNNING') = (lease_expires_at is not null)
    and (status <> 'RUNNING' or lease_token > 0)
    and (status <> 'SLEEPING' or wake_at is not null)
    and (wake_at is null and waits is null or status in ('SLEEPING', 'WAITING', 'PAUSED'))
    and (finished_at is not null) = (status in ('COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'CONTINUED'))
    and (output is null or status = 'COMPLETED')
    and (status <> 'FAILED' or failure is not null)
    and (status <> 'COMPLETED' or failure is null)
    and (status = 'CONTINUED') = (next_run_id is not null)
    and (compensation is null or compensation in ('COMPLETE', 'PARTIAL') or compensation = 'COMPENSATING' and finished_at is null)
    and (parent_run_id is null) = (parent_close is null)
    and (parent_close is null or parent_close in ('CANCEL', 'TERMINATE', 'ABANDON'))
    and (origin_run_id is null) = (origin_kind is null)
    and (origin_kind is null or origin_kind in ('RESTART', 'CONTINUE', 'FORK'));
end $$;
alter table perdure.workflow_runs add constraint valid_run check (perdure.is_valid_run(
  status, yield_reason, leased_by, lease_expires_at, lease_token, available_at, wake_at, waits, finished_at, output, failure,
  compensation, next_run_id, parent_run_id, parent_close, origin_run_id, origin_kind)) not valid;

create function perdure.is_valid_step(
  status text, kind text, is_latest boolean, is_cut boolean, is_arrived boolean, event_seq integer, finished_at timestamptz,
  next_retry_at timestamptz, deadline_at timestamptz, fires_at timestamptz, awaits text, output bytea, failure jsonb
) returns boolean language plpgsql immutable parallel safe as $$
begin
  return status in ('RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED', 'TIMED_OUT')
    and kind in ('FUNCTION', 'SLEEP', 'SIGNAL', 'CHILD', 'HUMAN', 'TRANSACTION', 'VERSION', 'EVENT', 'PROMISE', 'UPDATE')
    and (status = 'RUNNING') = (finished_at is null)
    and (status <> 'RUNNING' or is_latest)
    and (status not in ('COMPLETED', 'TIMED_OUT') or is_latest or is_cut)
    and (not is_cut or status <> 'RUNNING' and next_retry_at is null)
    and (not is_arrived or finished_at is not null and event_seq is null and is_latest and not is_cut)
    and (deadline_at is null or status = 'RUNNING')
    and (next_retry_at is null or status = 'FAILED')
    and (output is null or status = 'COMPLETED')
    and (status <> 'FAILED' or failure is not null)
    and (kind <> 'SLEEP' or fires_at is not null)
    and (fires_at is null or kind = 'SLEEP' or awaits is not null);
end $$;
alter table perdure.step_runs add constraint valid_step check (perdure.is_valid_step(
  status, kind, is_latest, is_cut, is_arrived, event_seq, finished_at, next_retry_at, deadline_at, fires_at, awaits, output,
  failure)) not valid;
`;
