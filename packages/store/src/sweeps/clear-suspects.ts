/**
 * Clears held runs of suspicion that have completed a step under their present lease: they do not kill their workers. Until then a worker
 * gets no other suspect (decision 0014); a run that works for hours would keep all others waiting for as long.
 *
 * A step's completion does not do it, because every step of every run would then look at its run's losses. Here only the suspects are read that
 * workers hold, nearly always none.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { QueueRef } from '../model.js';
import { type QueueRow, queuesOf } from './queues.js';

const CLEAR_SUSPECTS = defineStatement(
  'clear_suspects',
  `with proven as materialized (
    select r.run_id
    from perdure.workflow_runs r
    where r.status = 'RUNNING' and r.suspect and exists (
      select 1 from perdure.step_runs s
      where s.run_id = r.run_id and s.lease_token = r.lease_token and s.status = 'COMPLETED' and s.attempt_key = 0)
    limit $1
    for no key update of r skip locked
  ),
  cleared as (
    update perdure.workflow_runs r set lost_leases = 0, counted_losses = 0, updated_at = perdure.clock()
    from proven p
    where r.run_id = p.run_id
    returning r.namespace, r.task_queue
  )
  select namespace, task_queue, count(*)::int as runs from cleared group by namespace, task_queue`,
);

/**
 * @param limit most runs in this sweep
 * @returns how many were cleared, and the queues whose next suspect may be claimed
 */
export async function clearSuspects(
  db: Database,
  { limit }: { readonly limit: number },
): Promise<{ cleared: number; queues: readonly QueueRef[] }> {
  const rows = await db.query<QueueRow>(CLEAR_SUSPECTS, [limit]);
  return { cleared: rows.reduce((sum, row) => sum + row.runs, 0), queues: queuesOf(rows) };
}
