/**
 * Does the next chunk of a bulk operation that is due, in one transaction: it locks the operation, finds the next runs, acts on them and moves the
 * cursor. Any number of servers call it; the lock of the row admits one at a time, and the others pass over it. A server that dies takes its
 * transaction with it, and the next one begins the chunk again: each run is acted on once.
 *
 * Runs are locked in the order of their ids, by the statement of the transition, after the operation; nobody locks an operation after a run. So
 * no chunk is in a deadlock that other transitions would not be in.
 *
 * A retry may wait for a start with the same workflow id, and must not hold other runs meanwhile. So its runs are statements of their own, beside
 * the transaction. The runs of the chunk are recorded before, and each retry has a request id: when the server dies, the next one repeats the same
 * runs, and those that were retried are recognised, even when they have failed again.
 *
 * Race closed: a pause or an abort, which waits for the chunk under way. Not promised: runs that begin to match after the cursor has passed them.
 */
import type { Database } from '../../database/database.js';
import { DatabaseUnavailableError } from '../../database/errors.js';
import { defineStatement } from '../../database/statement.js';
import type { BulkKind } from '../../model.js';
import { BULK_COLUMNS, type BulkOperation, type BulkRow, bulkOf, bulkPayload } from '../../reads/bulk-row.js';
import { findMatchingRuns, type MatchingRuns } from '../../reads/matching-runs.js';
import { type BulkAct, beforeDeletion, carryOut, resultOf } from './bulk-acts.js';

/** Most runs of a chunk: some tens of ms, in which it holds their locks. */
const MAX_CHUNK = 500;
/** Fewer, because a run may have any number of steps; and because retries are a statement each. */
const SMALLER_CHUNKS: Readonly<Partial<Record<BulkKind, number>>> = { DELETE: 50, RETRY: 100 };
/** Chunks per second, unless the rate is below it. */
const CHUNKS_PER_S = 20;
/** Shortest time from one chunk to the next, in ms: a filter that few runs match must not keep PostgreSQL busy. */
const MIN_PERIOD_MS = 50;

const TAKE_BULK = defineStatement(
  'take_bulk_operation',
  `select ${BULK_COLUMNS}, o.payload, o.payload_encoding, o.cursor_run_id, o.chunk, perdure.clock() as taken_at
  from perdure.bulk_operations o
  where o.status = 'RUNNING' and o.due_at <= perdure.clock()
  order by o.due_at
  limit 1
  for no key update skip locked`,
);

/** A host that vanishes cannot end its transaction: PostgreSQL does, when nothing has come for this long. */
const BOUND_TRANSACTION = defineStatement(
  'bound_bulk_transaction',
  `select set_config('idle_in_transaction_session_timeout', '60s', true)`,
);

/**
 * A chunk that comes late may be made up for, by one second. Between chunks there is a rest as long as the chunk took, up to a second: where PostgreSQL
 * is busy, others come first.
 */
const MOVE_BULK = defineStatement(
  'move_bulk_operation',
  `update perdure.bulk_operations o
  set cursor_run_id = coalesce($2::uuid, o.cursor_run_id), chunk = $3::text::jsonb,
    changed = o.changed + $4::int, unchanged = o.unchanged + $5::int, refused = o.refused + $6::int,
    refusals = case when jsonb_array_length(o.refusals) < 20 then (
      select coalesce(jsonb_agg(x.refusal order by x.nth), '[]')
      from jsonb_array_elements(o.refusals || $7::text::jsonb) with ordinality as x(refusal, nth) where x.nth <= 20) else o.refusals end,
    status = case when $8::boolean then 'COMPLETED' else o.status end,
    finished_at = case when $8 then perdure.clock() end,
    due_at = case when not $8 then greatest(greatest(o.due_at, perdure.clock() - interval '1 s') + $9::float8 * interval '1 ms',
      perdure.clock() + least(perdure.clock() - $11::timestamptz, interval '1 s')) end,
    worked_by = $10::text, trouble = null, updated_at = perdure.clock()
  where o.operation_id = $1::uuid`,
);

const NOTE_TROUBLE = defineStatement(
  'note_bulk_trouble',
  `update perdure.bulk_operations o
  set trouble = $2::text, due_at = perdure.clock() + interval '5 s', updated_at = perdure.clock()
  where o.operation_id = $1::uuid and o.status = 'RUNNING'`,
);

/** A chunk that failed for another reason than the database being away. The operation is tried again after a while. */
export class BulkChunkError extends Error {
  readonly operationId: string;

  constructor(operationId: string, cause: unknown) {
    super(
      `A chunk of bulk operation ${operationId} failed: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
    this.operationId = operationId;
  }
}

export interface AdvanceOptions {
  /** The server, for people. */
  readonly workedBy: string;
  readonly maxUnconsumedSignals: number;
}

/** What one call did; null: no operation was due, or another server works on it. */
export interface AdvancedBulk {
  readonly operationId: string;
  readonly acts: readonly BulkAct[];
  /** It has looked at all runs. */
  readonly isEnd: boolean;
}

/**
 * @param db with a connection for the transaction and one for statements beside it
 * @throws {BulkChunkError} the chunk was taken back
 */
export async function advanceBulkOperation(db: Database, options: AdvanceOptions): Promise<AdvancedBulk | null> {
  let taken: string | undefined;
  try {
    return await db.transaction(async (transaction) => {
      await transaction.query(BOUND_TRANSACTION, []);
      const [row] = await transaction.query<TakenRow>(TAKE_BULK, []);
      taken = row?.operation_id;
      return row === undefined ? null : doChunk(db, transaction, row, options);
    });
  } catch (error) {
    if (taken === undefined || error instanceof DatabaseUnavailableError) throw error;
    throw new BulkChunkError(taken, error);
  }
}

type TakenRow = BulkRow & {
  readonly cursor_run_id: string | null;
  readonly chunk: readonly string[] | null;
  readonly taken_at: Date;
};

async function doChunk(
  db: Database,
  transaction: Database,
  row: TakenRow,
  options: AdvanceOptions,
): Promise<AdvancedBulk> {
  const operation = bulkOf(row);
  const { operationId, kind } = operation;
  const takenAt = row.taken_at.toISOString();
  const move = (found: MatchingRuns, acts: readonly BulkAct[]) =>
    moveOn(transaction, operation, found, acts, { ...options, takenAt });
  const chunk = { operation, payload: bulkPayload(row), maxUnconsumedSignals: options.maxUnconsumedSignals };
  if (row.chunk !== null) {
    const acts = await carryOut(db, { ...chunk, runIds: row.chunk });
    return move({ runIds: row.chunk, cursor: row.chunk.at(-1) ?? null, isEnd: false }, acts);
  }
  const page = { after: row.cursor_run_id, limit: chunkSize(operation) };
  const found = await findMatchingRuns(transaction, operation.filter, page, operationId);
  if (found.runIds.length === 0) return move(found, []);
  if (kind === 'RETRY') {
    await transaction.query(MOVE_BULK, [
      operationId,
      null,
      JSON.stringify(found.runIds),
      0,
      0,
      0,
      '[]',
      false,
      0,
      options.workedBy,
      takenAt,
    ]);
    return { operationId, acts: [], isEnd: false };
  }
  if (kind === 'DELETE') await beforeDeletion(db, found.runIds);
  return move(found, await carryOut(transaction, { ...chunk, runIds: found.runIds }));
}

async function moveOn(
  transaction: Database,
  { operationId, rate }: BulkOperation,
  { runIds, cursor, isEnd }: MatchingRuns,
  acts: readonly BulkAct[],
  { workedBy, takenAt }: AdvanceOptions & { readonly takenAt: string },
): Promise<AdvancedBulk> {
  const results = acts.map(resultOf);
  const count = (verdict: string) => results.filter((result) => result.verdict === verdict).length;
  const refusals = results.flatMap(({ refusal }) => (refusal === undefined ? [] : [refusal]));
  await transaction.query(MOVE_BULK, [
    operationId,
    cursor,
    null,
    count('changed'),
    count('unchanged'),
    count('refused'),
    JSON.stringify(refusals.slice(0, 20)),
    isEnd,
    Math.max(MIN_PERIOD_MS, (runIds.length / rate) * 1_000),
    workedBy,
    takenAt,
  ]);
  return { operationId, acts, isEnd };
}

function chunkSize({ kind, rate }: BulkOperation): number {
  return Math.min(Math.max(1, Math.ceil(rate / CHUNKS_PER_S)), SMALLER_CHUNKS[kind] ?? MAX_CHUNK);
}

/** Shows people why an operation does not move, and tries it again in 5 s. */
export async function noteBulkTrouble(db: Database, operationId: string, trouble: string): Promise<void> {
  await db.query(NOTE_TROUBLE, [operationId, trouble.slice(0, 1_000)]);
}
