/** Reads workers. */
import type { WorkerRef } from '../commands.js';
import type { Reader } from '../database/database.js';
import { textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { Worker, WorkerStatus } from '../model.js';
import type { WorkerCursor, WorkerFilter, WorkerPage, WorkerWithRuns } from './queries.js';

const WORKER_COLUMNS = `w.worker_id, w.namespace, w.task_queue, to_json(w.workflow_types) as workflow_types, w.build,
    w.identity, w.slots, w.lease_ms, w.status, w.registered_at, w.last_seen_at`;

const RUNNING_COUNT = `(select count(*)::int from perdure.workflow_runs r
    where r.status = 'RUNNING' and r.namespace = w.namespace and r.task_queue = w.task_queue and r.leased_by = w.worker_id) as running`;

const LIST_WORKERS = defineStatement(
  'list_workers',
  `select ${WORKER_COLUMNS}, ${RUNNING_COUNT}
  from perdure.workers w
  where w.namespace = $1 and ($2::text is null or w.task_queue = $2) and ($3::text[] is null or w.status = any($3::text[]))
    and ($4::timestamptz is null or (date_trunc('milliseconds', w.last_seen_at), w.worker_id) < ($4::timestamptz, $5::uuid))
  order by date_trunc('milliseconds', w.last_seen_at) desc, w.worker_id desc
  limit $6::int`,
);

const GET_WORKER = defineStatement(
  'get_worker',
  `select ${WORKER_COLUMNS}, ${RUNNING_COUNT} from perdure.workers w where w.worker_id = $1::uuid and w.namespace = $2`,
);

const GET_REGISTRATION = defineStatement(
  'get_registration',
  `select ${WORKER_COLUMNS}, 0 as running from perdure.workers w where w.worker_id = $1::uuid and w.namespace = $2`,
);

interface Row {
  readonly worker_id: string;
  readonly namespace: string;
  readonly task_queue: string;
  readonly workflow_types: string[];
  readonly build: string;
  readonly identity: string;
  readonly slots: number;
  readonly lease_ms: number;
  readonly status: WorkerStatus;
  readonly registered_at: Date;
  readonly last_seen_at: Date;
  readonly running: number;
}

function workerOf(row: Row): WorkerWithRuns {
  return {
    workerId: row.worker_id,
    namespace: row.namespace,
    taskQueue: row.task_queue,
    workflowTypes: row.workflow_types,
    build: row.build,
    identity: row.identity,
    slots: row.slots,
    leaseMs: row.lease_ms,
    status: row.status,
    registeredAt: row.registered_at,
    lastSeenAt: row.last_seen_at,
    running: row.running,
  };
}

/** @returns workers, the most recently seen first (compared in ms) */
export async function listWorkers(
  db: Reader,
  filter: WorkerFilter,
  page: { readonly limit: number; readonly after: WorkerCursor | null },
): Promise<WorkerPage> {
  const rows = await db.query<Row>(LIST_WORKERS, [
    filter.namespace,
    filter.taskQueue,
    filter.statuses.length === 0 ? null : textArray(filter.statuses),
    page.after?.lastSeenAt.toISOString() ?? null,
    page.after?.workerId ?? null,
    page.limit + 1,
  ]);
  const workers = rows.slice(0, page.limit).map(workerOf);
  const last = workers.at(-1);
  return {
    workers,
    next:
      rows.length > page.limit && last !== undefined ? { lastSeenAt: last.lastSeenAt, workerId: last.workerId } : null,
  };
}

export async function getWorker(db: Reader, ref: WorkerRef): Promise<WorkerWithRuns | null> {
  const [row] = await db.query<Row>(GET_WORKER, [ref.workerId, ref.namespace]);
  return row === undefined ? null : workerOf(row);
}

/** The worker without counting its runs. */
export async function getRegistration(db: Reader, ref: WorkerRef): Promise<Worker | null> {
  const [row] = await db.query<Row>(GET_REGISTRATION, [ref.workerId, ref.namespace]);
  return row === undefined ? null : workerOf(row);
}
