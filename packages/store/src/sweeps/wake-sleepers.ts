/**
 * Makes due runs claimable, the longest overdue first, and completes the timers that they waited for.
 *
 * SKIP LOCKED: several reapers share the work; a run that a cancel or terminate is changing now is left to it. A
 * timer is never early: the row's own `wake_at` and `fires_at` are compared with the database's clock. The timers' result
 * order is the lease under which the run was suspended with the highest event_seq, see read-memo.
 * WAITING is reserved for runs that wait for more than time.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { QueueRef } from '../model.js';
import { type QueueRow, queuesOf } from './queues.js';

const WAKE_SLEEPERS = defineStatement(
  'wake_sleepers',
  `with due as materialized (
    select r.run_id, r.waits, r.lease_token
    from perdure.workflow_runs r
    where r.wake_at <= perdure.clock() and r.status in ('SLEEPING', 'WAITING')
    order by r.wake_at
    limit $1
    for no key update skip locked
  ),
  fired as (
    update perdure.step_runs s
    set status = 'COMPLETED', finished_at = perdure.clock(), event_seq = 2147483647, lease_token = d.lease_token
    from due d
    cross join lateral jsonb_to_recordset(d.waits) as w(step text, kind text)
    where w.kind = 'TIMER' and s.run_id = d.run_id and s.step_id = w.step and s.attempt_key = 0
      and s.status = 'RUNNING' and s.fires_at <= perdure.clock()
    returning 1
  ),
  woken as (
    update perdure.workflow_runs r
    set status = 'PENDING', available_at = perdure.clock(), wake_at = null, waits = null, updated_at = perdure.clock()
    from due d
    where r.run_id = d.run_id
    returning r.namespace, r.task_queue
  )
  select namespace, task_queue, count(*)::int as runs from woken group by namespace, task_queue`,
);

/**
 * @param limit most runs in this sweep
 * @returns how many were woken, and in which queues
 */
export async function wakeSleepers(
  db: Database,
  { limit }: { readonly limit: number },
): Promise<{ woken: number; queues: readonly QueueRef[] }> {
  const rows = await db.query<QueueRow>(WAKE_SLEEPERS, [limit]);
  return { woken: rows.reduce((sum, row) => sum + row.runs, 0), queues: queuesOf(rows) };
}
