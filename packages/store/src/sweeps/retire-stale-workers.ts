/**
 * Marks workers OFFLINE that were silent for longer than their lease (at least `minSilenceMs`), and deletes those that have been
 * OFFLINE for a day.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

const RETIRE_STALE_WORKERS = defineStatement(
  'retire_stale_workers',
  `with stale as materialized (
    select w.worker_id from perdure.workers w
    where w.status <> 'OFFLINE' and w.last_seen_at < perdure.clock() - greatest(w.lease_ms, $1::int) * interval '1 ms'
    order by w.worker_id
    for no key update skip locked
  ),
  retired as (
    update perdure.workers w set status = 'OFFLINE' from stale s where w.worker_id = s.worker_id returning w.worker_id
  ),
  forgotten as (
    delete from perdure.workers w
    where w.status = 'OFFLINE' and w.last_seen_at < perdure.clock() - interval '1 day'
      and not exists (select 1 from perdure.workflow_runs r where r.status = 'RUNNING' and r.leased_by = w.worker_id)
    returning 1
  )
  select worker_id from retired`,
);

/** @returns the workers that are OFFLINE now */
export async function retireStaleWorkers(
  db: Database,
  { minSilenceMs }: { readonly minSilenceMs: number },
): Promise<readonly string[]> {
  const rows = await db.query<{ worker_id: string }>(RETIRE_STALE_WORKERS, [minSilenceMs]);
  return rows.map((row) => row.worker_id);
}
