/**
 * Takes workers out of service: DRAINING ones keep their runs and get no new ones; deregistered ones become OFFLINE. Leases are not
 * changed in either case. The request to drain is kept: a worker that is OFFLINE, or becomes OFFLINE because it is silent, is
 * DRAINING when its heartbeats arrive again. Once this is acknowledged no claim leases a run to the worker, because claims read
 * the status in their own statement.
 */
import type { DeregisterWorkerOutcome, DrainWorkerOutcome, WorkerRef } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { WorkerStatus } from '../../model.js';
import { inRounds } from '../parts/batch.js';

const RETIRE_WORKERS = defineStatement(
  'retire_workers',
  `with command as (
    select * from unnest($1::uuid[], $2::text[]) with ordinality as t(worker_id, namespace, ord)
  ),
  locked as materialized (
    select w.worker_id from perdure.workers w where w.worker_id = any($1::uuid[]) order by w.worker_id for no key update
  ),
  retired as (
    update perdure.workers w
    set status = case when $3::boolean or w.status = 'OFFLINE' then 'OFFLINE' else 'DRAINING' end,
      drain_requested_at = case when $3::boolean then w.drain_requested_at
        else coalesce(w.drain_requested_at, perdure.clock()) end,
      deregistered_at = case when $3::boolean then coalesce(w.deregistered_at, perdure.clock()) else w.deregistered_at end
    from command c
    join locked l on l.worker_id = c.worker_id
    where w.worker_id = c.worker_id and w.namespace = c.namespace
    returning w.worker_id, w.status
  )
  select c.ord::int as ord, r.status
  from command c
  left join retired r on r.worker_id = c.worker_id
  order by c.ord`,
);

interface Row {
  readonly status: WorkerStatus | null;
}

async function retire<Outcome>(
  db: Database,
  commands: readonly WorkerRef[],
  deregister: boolean,
  outcomeOf: (row: Row) => Outcome,
): Promise<Outcome[]> {
  return inRounds(
    commands,
    (command) => command.workerId,
    async (round) => {
      const rows = await db.query<Row>(RETIRE_WORKERS, [
        plainArray(round, (command) => command.workerId),
        textArray(round, (command) => command.namespace),
        deregister,
      ]);
      return rows.map(outcomeOf);
    },
  );
}

/** @returns one outcome per command, in their order */
export function drainWorkers(db: Database, commands: readonly WorkerRef[]): Promise<DrainWorkerOutcome[]> {
  return retire(db, commands, false, (row) => {
    if (row.status === null) return { kind: 'worker_not_found' };
    return { kind: row.status === 'OFFLINE' ? 'offline' : 'draining' };
  });
}

/** @returns one outcome per command, in their order */
export function deregisterWorkers(db: Database, commands: readonly WorkerRef[]): Promise<DeregisterWorkerOutcome[]> {
  return retire(db, commands, true, (row) => ({ kind: row.status === null ? 'worker_not_found' : 'deregistered' }));
}
