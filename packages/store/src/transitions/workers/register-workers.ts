/**
 * Registers workers, or registers them again under their id: one row per worker id. A request to drain stays in force until the
 * worker has deregistered.
 */
import type { RegisterWorker, RegisterWorkerOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { inRounds, type VerdictRow } from '../parts/batch.js';

const REGISTER_WORKERS = defineStatement(
  'register_workers',
  `with command as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::text[], $7::int[], $8::int[])
      with ordinality as t(worker_id, namespace, task_queue, workflow_types, build, identity, slots, lease_ms, ord)
  ),
  registered as (
    insert into perdure.workers as w (worker_id, namespace, task_queue, workflow_types, build, identity, slots, lease_ms,
      status, registered_at, last_seen_at)
    select c.worker_id, c.namespace, c.task_queue, array(select jsonb_array_elements_text(c.workflow_types)), c.build,
      c.identity, c.slots, c.lease_ms, 'ONLINE', perdure.clock(), perdure.clock()
    from command c
    join perdure.namespaces n on n.name = c.namespace
    order by c.worker_id
    on conflict (worker_id) do update
    set task_queue = excluded.task_queue, workflow_types = excluded.workflow_types, build = excluded.build,
      identity = excluded.identity, slots = excluded.slots, lease_ms = excluded.lease_ms,
      drain_requested_at = case when w.deregistered_at is null then w.drain_requested_at end,
      status = case when w.deregistered_at is null and w.drain_requested_at is not null then 'DRAINING' else 'ONLINE' end,
      last_seen_at = excluded.last_seen_at, deregistered_at = null, lost_run_losses = null
    where w.namespace = excluded.namespace
    returning w.worker_id
  )
  select c.ord::int as ord,
    case when r.worker_id is not null then 'registered' when n.name is null then 'namespace_not_found' else 'worker_not_found' end as verdict
  from command c
  left join perdure.namespaces n on n.name = c.namespace
  left join registered r on r.worker_id = c.worker_id
  order by c.ord`,
);

/** @returns one outcome per command, in their order */
export function registerWorkers(db: Database, commands: readonly RegisterWorker[]): Promise<RegisterWorkerOutcome[]> {
  return inRounds(
    commands,
    (command) => command.workerId,
    async (round) => {
      const rows = await db.query<VerdictRow>(REGISTER_WORKERS, [
        plainArray(round, (command) => command.workerId),
        textArray(round, (command) => command.namespace),
        textArray(round, (command) => command.taskQueue),
        jsonArray(round, (command) => [...command.workflowTypes]),
        textArray(round, (command) => command.build),
        textArray(round, (command) => command.identity),
        plainArray(round, (command) => command.slots),
        plainArray(round, (command) => command.leaseMs),
      ]);
      return rows.map((row) => ({ kind: row.verdict as RegisterWorkerOutcome['kind'] }));
    },
  );
}
