/**
 * Heartbeats of workers. A worker that was OFFLINE only because it had been silent becomes ONLINE again, or DRAINING when a drain
 * was requested; one that deregistered stays OFFLINE.
 */
import type { TouchWorkerOutcome, WorkerRef } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { WorkerStatus } from '../../model.js';
import { inRounds } from '../parts/batch.js';

const TOUCH_WORKERS = defineStatement(
  'touch_workers',
  `with command as (
    select * from unnest($1::uuid[], $2::text[]) with ordinality as t(worker_id, namespace, ord)
  ),
  locked as materialized (
    select w.worker_id from perdure.workers w
    where w.worker_id = any($1::uuid[]) and w.deregistered_at is null
    order by w.worker_id
    for no key update
  ),
  touched as (
    update perdure.workers w
    set last_seen_at = perdure.clock(), lost_run_losses = null,
      status = case when w.drain_requested_at is null then 'ONLINE' else 'DRAINING' end
    from command c
    join locked l on l.worker_id = c.worker_id
    where w.worker_id = c.worker_id and w.namespace = c.namespace and w.deregistered_at is null
    returning w.worker_id, w.status
  )
  select c.ord::int as ord, t.status
  from command c
  left join touched t on t.worker_id = c.worker_id
  order by c.ord`,
);

interface Row {
  readonly status: WorkerStatus | null;
}

/** @returns one outcome per command, in their order */
export function touchWorkers(db: Database, commands: readonly WorkerRef[]): Promise<TouchWorkerOutcome[]> {
  return inRounds(
    commands,
    (command) => command.workerId,
    async (round) => {
      const rows = await db.query<Row>(TOUCH_WORKERS, [
        plainArray(round, (command) => command.workerId),
        textArray(round, (command) => command.namespace),
      ]);
      return rows.map((row) =>
        row.status === null ? { kind: 'not_registered' } : { kind: 'alive', status: row.status },
      );
    },
  );
}
