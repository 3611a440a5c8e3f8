/**
 * Makes due runs claimable, the longest overdue first, and ends the timers and timeouts that they waited for: they have arrived, and
 * the next worker takes them (decision 0020).
 *
 * SKIP LOCKED: several reapers share the work; a run that a cancel or terminate is changing now is left to it. A
 * timer is never early: the row's own `wake_at` and `fires_at` are compared with the database's clock.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { QueueRef } from '../model.js';
import { type QueueRow, queuesOf } from './queues.js';

/** Its parameter is the most runs that it wakes. */
export const WAKE_SLEEPERS = defineStatement(
  'wake_sleepers',
  `with due as materialized (
    select r.run_id, r.waits
    from perdure.workflow_runs r
    where r.wake_at <= perdure.clock() and r.status in ('SLEEPING', 'WAITING')
    order by r.wake_at
    limit $1
    for no key update skip locked
  ),
  fired as (
    update perdure.step_runs s
    set status = case when w.kind = 'TIMER' then 'COMPLETED' else 'TIMED_OUT' end, finished_at = perdure.clock(), is_arrived = true
    from due d
    cross join lateral jsonb_to_recordset(d.waits) as w(step text, kind text)
    where s.run_id = d.run_id and s.step_id = w.step and s.attempt_key = 0
      and s.status = 'RUNNING' and s.fires_at <= perdure.clock()
    returning s.run_id
  ),
  woken as (
    update perdure.workflow_runs r
    set status = 'PENDING', available_at = perdure.clock(), wake_at = null, waits = null, updated_at = perdure.clock(),
      has_arrivals = r.has_arrivals or exists (select 1 from fired f where f.run_id = r.run_id)
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
