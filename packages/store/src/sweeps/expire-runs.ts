/**
 * Ends runs past one of their deadlines as FAILED, in any open status: that of their chain, of the run, of its attempt, or the one before which a
 * worker had to claim it. The error of their last attempt, if there is one, is kept as the cause.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

const EXPIRE_RUNS = defineStatement(
  'expire_runs',
  `with due as materialized (
    select r.run_id, case
        when exists (select 1 from perdure.run_limits l where l.run_id = r.run_id and l.chain_deadline_at <= perdure.clock()) then 'CHAIN'
        when r.run_deadline_at <= perdure.clock() then 'RUN'
        when r.started_at is null then 'START'
        else 'EXECUTION' end as timeout
    from perdure.workflow_runs r
    where r.deadline_at <= perdure.clock() and r.deadline_at is not null and r.finished_at is null
    order by r.deadline_at
    limit $1
    for no key update skip locked
  ),
  expired as (
    update perdure.workflow_runs r
    set status = 'FAILED', finished_at = perdure.clock(), updated_at = perdure.clock(),
      compensation = case r.compensation when 'COMPENSATING' then 'PARTIAL' else r.compensation end,
      failure = case k.timeout
          when 'CHAIN' then jsonb_build_object('type', 'ChainTimeoutError', 'reason', 'CHAIN_TIMEOUT',
            'message', 'The run and those that it continues did not end within their chain timeout.')
          when 'RUN' then jsonb_build_object('type', 'RunTimeoutError', 'reason', 'RUN_TIMEOUT',
            'message', 'The run did not end within its total timeout.')
          when 'START' then jsonb_build_object('type', 'StartTimeoutError', 'reason', 'START_TIMEOUT',
            'message', format('No worker of task queue %L claimed the run within its start timeout.', r.task_queue))
          else jsonb_build_object('type', 'ExecutionTimeoutError', 'reason', 'EXECUTION_TIMEOUT',
            'message', 'The attempt of the run did not end within its execution timeout.') end
        || case when r.failure is null then '{}'::jsonb else jsonb_build_object('cause', r.failure) end,
      leased_by = null, lease_expires_at = null, available_at = null, wake_at = null, waits = null
    from due k
    where r.run_id = k.run_id
    returning r.run_id, r.parent_run_id
  ),
  untold as (
    insert into perdure.child_ends (child_id, ended_at) select run_id, perdure.clock() from expired where parent_run_id is not null
    on conflict do nothing
  )
  select run_id, perdure.cancel_open_steps(run_id) as closed from expired`,
);

/** @returns the runs that ended */
export async function expireRuns(db: Database, { limit }: { readonly limit: number }): Promise<readonly string[]> {
  const rows = await db.query<{ run_id: string }>(EXPIRE_RUNS, [limit]);
  return rows.map((row) => row.run_id);
}
