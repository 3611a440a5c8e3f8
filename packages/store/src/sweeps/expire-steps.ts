/**
 * Fails attempts past their deadline and reclaims their runs at once.
 *
 * Workers enforce a step's timeout themselves; the deadline here is that plus a grace. An attempt has timed out when its
 * worker has renewed the lease since the deadline and still has not ended it: the worker is alive, but stuck. Its lease is no
 * longer trusted: the run becomes claimable, and the fence refuses everything that the stuck worker still sends. The retry policy
 * in the code decides whether another attempt follows, when the run continues. A worker that has been silent since before the
 * deadline may be dead, and a dead worker uses up no counted attempt (decision 0004): its attempts wait for the end of the lease.
 *
 * Attempts whose deadline no longer matters are closed too, so that they do not delay others: an attempt of an ended run becomes
 * CANCELLED, one that an earlier lease left open WORKER_LOST; the runs are not changed.
 *
 * Race closed: the worker completes the late attempt before the run is locked. The update then finds it ended, and changes
 * neither the run nor its other attempts.
 *
 * Lock order: the runs first, by id, as everywhere.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { QueueRef } from '../model.js';
import { type QueueRow, queuesOf } from './queues.js';

const EXPIRE_STEPS = defineStatement(
  'expire_steps',
  `with late as materialized (
    select distinct d.run_id from (
      select s.run_id from perdure.step_runs s
      join perdure.workflow_runs r on r.run_id = s.run_id
      left join perdure.workers w on w.worker_id = r.leased_by
      where s.deadline_at <= perdure.clock() and s.deadline_at is not null
        and (r.status <> 'RUNNING' or r.lease_token <> s.lease_token
          or r.lease_expires_at - coalesce(w.lease_ms, 30000) * interval '1 ms' >= s.deadline_at)
      order by s.deadline_at limit $1) d
  ),
  locked as materialized (
    select r.run_id, r.status, r.lease_token, r.finished_at,
      r.lease_expires_at - coalesce((select w.lease_ms from perdure.workers w where w.worker_id = r.leased_by), 30000)
        * interval '1 ms' as renewed_at
    from perdure.workflow_runs r
    where r.run_id in (select run_id from late)
    order by r.run_id
    for no key update of r skip locked
  ),
  failed as (
    update perdure.step_runs s
    set status = case when l.finished_at is null then 'FAILED' else 'CANCELLED' end,
      finished_at = perdure.clock(), deadline_at = null,
      next_retry_at = case when l.finished_at is null then perdure.clock() end,
      failure = case
        when l.finished_at is not null then null
        when l.status = 'RUNNING' and l.lease_token = s.lease_token then jsonb_build_object('type', 'StepTimeoutError',
          'reason', 'STEP_TIMEOUT', 'message', 'The attempt ran past its timeout, and its worker did not end it.')
        else jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST',
          'message', 'The worker that ran this attempt was lost.') end
    from locked l
    where s.run_id = l.run_id and s.attempt_key = 0 and s.status = 'RUNNING' and s.deadline_at <= perdure.clock()
      and (l.status <> 'RUNNING' or l.lease_token <> s.lease_token or l.renewed_at >= s.deadline_at)
    returning s.run_id, l.status = 'RUNNING' and l.lease_token = s.lease_token as timed_out
  ),
  stuck as materialized (select run_id from failed where timed_out group by run_id),
  taken as (
    update perdure.workflow_runs r
    set status = 'PENDING', available_at = perdure.clock(), yield_reason = 'STEP_TIMEOUT', attempt = r.attempt + 1,
      leased_by = null, lease_expires_at = null, updated_at = perdure.clock()
    from stuck k
    where r.run_id = k.run_id
    returning r.run_id, r.namespace, r.task_queue
  ),
  -- After all late attempts are failed: an attempt that is still open is not past its own timeout.
  lost as materialized (
    select t.*, perdure.lose_open_steps(t.run_id,
      'The run was taken from its worker because another attempt ran past its timeout.') as closed
    from taken t
  )
  select namespace, task_queue, count(*)::int as runs from lost group by namespace, task_queue`,
);

/** @returns how many runs were reclaimed, and in which queues */
export async function expireSteps(
  db: Database,
  { limit }: { readonly limit: number },
): Promise<{ taken: number; queues: readonly QueueRef[] }> {
  const rows = await db.query<QueueRow>(EXPIRE_STEPS, [limit]);
  return { taken: rows.reduce((sum, row) => sum + row.runs, 0), queues: queuesOf(rows) };
}
