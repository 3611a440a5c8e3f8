/** Reads promises: steps of kind PROMISE. */
import type { Reader } from '../database/database.js';
import { payloadOf } from '../database/payload-columns.js';
import { defineStatement } from '../database/statement.js';
import type { Failure, Payload } from '../model.js';

export const PROMISE_STATES = ['PENDING', 'RESOLVED', 'REJECTED', 'TIMED_OUT', 'CANCELLED'] as const;
export type PromiseState = (typeof PROMISE_STATES)[number];

export interface StoredPromise {
  readonly promiseId: string;
  readonly namespace: string;
  readonly runId: string;
  readonly workflowId: string;
  readonly stepId: string;
  readonly state: PromiseState;
  readonly createdAt: Date;
  readonly timesOutAt: Date | null;
  readonly settledAt: Date | null;
  /** Absent in lists. */
  readonly value?: Payload | null;
  readonly failure: Failure | null;
}
/** Position in a list of promises, the newest runs first, each in program order. */
export interface PromiseCursor {
  readonly runId: string;
  readonly seq: number;
}
export interface PromisePage {
  readonly promises: readonly StoredPromise[];
  readonly next: PromiseCursor | null;
}

// A wait that a run-level retry has taken back begins again, so its promise may still be settled.
const COLUMNS = `s.awaits as promise_id, r.namespace, s.run_id, r.workflow_id, s.step_id, s.seq, s.started_at, s.fires_at, s.finished_at,
    s.failure, case
      when s.status = 'RUNNING' or (s.status = 'CANCELLED' and s.is_cut and r.finished_at is null) then 'PENDING'
      when s.status = 'COMPLETED' then 'RESOLVED' when s.status = 'FAILED' then 'REJECTED' else s.status end as state`;

const GET_PROMISE = defineStatement(
  'get_promise',
  `select ${COLUMNS}, s.output, s.output_encoding
  from perdure.step_runs s
  join perdure.workflow_runs r on r.run_id = s.run_id
  where s.kind = 'PROMISE' and s.is_latest and s.awaits is not null and s.awaits = $1 and ($2::text is null or r.namespace = $2)
  limit 1`,
);

/**
 * Reads the pending promises of all namespaces in the order of their index, and those of the namespace are listed: at most as many as
 * $5 says, so that a page of a namespace with few promises beside another one with many costs no more. The last one read is the edge.
 */
const LIST_PENDING_PROMISES = defineStatement(
  'list_pending_promises',
  `with pending as materialized (
    select s.run_id, s.seq, s.step_id
    from perdure.step_runs s
    where s.kind = 'PROMISE' and s.status = 'RUNNING' and ($2::uuid is null or (s.run_id, s.seq) < ($2::uuid, $3::int))
    order by s.run_id desc, s.seq desc
    limit $5::int
  )
  select e.edge_run_id, e.edge_seq, e.read, l.*
  from (
    select p.run_id as edge_run_id, p.seq as edge_seq, count(*) over ()::int as read from pending p order by p.run_id, p.seq limit 1) e
  left join lateral (
    select ${COLUMNS}
    from pending p
    join perdure.step_runs s on s.run_id = p.run_id and s.step_id = p.step_id and s.attempt_key = 0
    join perdure.workflow_runs r on r.run_id = p.run_id
    where r.namespace = $1
    order by p.run_id desc, p.seq desc
    limit $4::int) l on true
  order by l.run_id desc, l.seq desc`,
);

/** Most pending promises, of any namespace, that are read for a page. */
const MAX_READ = 10_000;

const LIST_RUN_PROMISES = defineStatement(
  'list_run_promises',
  `select ${COLUMNS}
  from perdure.step_runs s
  join perdure.workflow_runs r on r.run_id = s.run_id
  where s.run_id = $2::uuid and r.namespace = $1 and s.kind = 'PROMISE' and s.is_latest and s.awaits is not null and s.seq > $3::int
  order by s.seq
  limit $4::int`,
);

interface Row {
  readonly promise_id: string;
  readonly namespace: string;
  readonly run_id: string;
  readonly workflow_id: string;
  readonly step_id: string;
  readonly seq: number;
  readonly state: PromiseState;
  readonly started_at: Date;
  readonly fires_at: Date | null;
  readonly finished_at: Date | null;
  readonly failure: Failure | null;
  readonly output?: Uint8Array | null;
  readonly output_encoding?: string | null;
}
interface PendingRow extends Omit<Row, 'run_id'> {
  readonly edge_run_id: string;
  readonly edge_seq: number;
  /** How many were read. */
  readonly read: number;
  /** Null: none of them is of the namespace. */
  readonly run_id: string | null;
}

/** @param namespace null: any */
export async function getPromise(
  db: Reader,
  { namespace, promiseId }: { readonly namespace: string | null; readonly promiseId: string },
): Promise<StoredPromise | null> {
  const [row] = await db.query<Row>(GET_PROMISE, [promiseId, namespace]);
  return row === undefined ? null : promiseOf(row);
}

/**
 * @param filter `runId` null: the pending promises of all runs; a page may have fewer than `limit`, or none, and a next one nevertheless
 * @returns those of the newest runs first; of one run all, in program order
 */
export async function listPromises(
  db: Reader,
  { namespace, runId }: { readonly namespace: string; readonly runId: string | null },
  page: { readonly limit: number; readonly after: PromiseCursor | null; readonly maxRead?: number },
): Promise<PromisePage> {
  if (runId === null) return listPending(db, namespace, page);
  const rows = await db.query<Row>(LIST_RUN_PROMISES, [namespace, runId, page.after?.seq ?? 0, page.limit + 1]);
  return pageOf(rows, page.limit, null);
}

async function listPending(
  db: Reader,
  namespace: string,
  { limit, after, maxRead = MAX_READ }: Parameters<typeof listPromises>[2],
): Promise<PromisePage> {
  const rows = await db.query<PendingRow>(LIST_PENDING_PROMISES, [
    namespace,
    after?.runId ?? null,
    after?.seq ?? null,
    limit + 1,
    maxRead,
  ]);
  const [first] = rows;
  const edge = first !== undefined && first.read >= maxRead ? { runId: first.edge_run_id, seq: first.edge_seq } : null;
  const listed = rows.flatMap(({ run_id, ...row }) => (run_id === null ? [] : [{ ...row, run_id }]));
  return pageOf(listed, limit, edge);
}

/** @param edge where the next page begins when these rows are no more than fit */
function pageOf(rows: readonly Row[], limit: number, edge: PromiseCursor | null): PromisePage {
  const listed = rows.slice(0, limit);
  const last = listed.at(-1);
  return {
    promises: listed.map(promiseOf),
    next: rows.length > limit && last !== undefined ? { runId: last.run_id, seq: last.seq } : edge,
  };
}

function promiseOf(row: Row): StoredPromise {
  return {
    promiseId: row.promise_id,
    namespace: row.namespace,
    runId: row.run_id,
    workflowId: row.workflow_id,
    stepId: row.step_id,
    state: row.state,
    createdAt: row.started_at,
    timesOutAt: row.fires_at,
    settledAt: row.state === 'PENDING' ? null : row.finished_at,
    failure: row.failure,
    ...(row.output === undefined ? {} : { value: payloadOf(row.output, row.output_encoding) }),
  };
}
