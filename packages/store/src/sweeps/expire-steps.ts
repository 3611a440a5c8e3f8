/**
 * Fails attempts past their deadline and takes their runs back at once.
 *
 * Workers enforce a step's timeout themselves; the deadline here is that plus a grace, so what gets this far is a worker
 * that renews its leases but is stuck. Its lease is not trusted further: the run becomes claimable, and the fence refuses
 * whatever the stuck worker still sends. Whether another try follows is decided by the code's policy when the run goes on.
 *
 * Race closed: the worker completes the late attempt before the run is locked. The update then finds it ended, and neither
 * the run nor its other attempts are touched.
 *
 * Lock order: the runs first, by id, as everywhere.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import { type QueueRef, type QueueRow, queuesOf } from './queues.js';

const EXPIRE_STEPS = defineStatement(
  'expire_steps',
  `with late as materialized (
    select distinct d.run_id from (
      select s.run_id from perdure.step_runs s
      where s.deadline_at <= perdure.clock() and s.deadline_at is not null
      order by s.deadline_at limit $1) d
  ),
  locked as materialized (
    select r.run_id
    from perdure.workflow_runs r
    where r.run_id in (select run_id from late) and r.finished_at is null
    order by r.run_id
    for no key update skip locked
  ),
  failed as (
    update perdure.step_runs s
    set status = 'FAILED', finished_at = perdure.clock(), deadline_at = null, next_retry_at = perdure.clock(),
      failure = jsonb_build_object('type', 'StepTimeoutError', 'reason', 'STEP_TIMEOUT',
        'message', 'The attempt ran past its timeout and its worker said nothing.')
    from locked l
    where s.run_id = l.run_id and s.attempt_key = 0 and s.status = 'RUNNING' and s.deadline_at <= perdure.clock()
    returning s.run_id
  ),
  lost as (
    update perdure.step_runs s
    set status = 'FAILED', finished_at = perdure.clock(), deadline_at = null, next_retry_at = perdure.clock(),
      failure = jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST',
        'message', 'The run was taken from its worker because another attempt ran past its timeout.')
    where s.run_id in (select run_id from failed) and s.attempt_key = 0 and s.status = 'RUNNING' and s.kind <> 'SLEEP'
      and (s.deadline_at is null or s.deadline_at > perdure.clock())
    returning 1
  ),
  taken as (
    update perdure.workflow_runs r
    set status = 'PENDING', available_at = perdure.clock(), yield_reason = 'STEP_TIMEOUT', attempt = r.attempt + 1,
      locked_by = null, locked_until = null, updated_at = perdure.clock()
    from locked l
    where r.run_id = l.run_id and r.status = 'RUNNING' and exists (select 1 from failed f where f.run_id = r.run_id)
    returning r.namespace, r.task_queue
  )
  select namespace, task_queue, count(*)::int as runs from taken group by namespace, task_queue`,
);

/** @returns how many runs were taken back, and in which queues */
export async function expireSteps(
  db: Database,
  { limit }: { readonly limit: number },
): Promise<{ taken: number; queues: readonly QueueRef[] }> {
  const rows = await db.query<QueueRow>(EXPIRE_STEPS, [limit]);
  return { taken: rows.reduce((sum, row) => sum + row.runs, 0), queues: queuesOf(rows) };
}
