/**
 * Starts bulk operations. A server does the first chunk afterwards; see `advance-bulk-operation.ts`. A repeat with the same request id starts
 * nothing and is answered with the operation that there is.
 */
import { v7 as newOperationId } from 'uuid';
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import type { BulkKind, Payload } from '../../model.js';
import { BULK_COLUMNS, type BulkOperation, type BulkRow, bulkOf } from '../../reads/bulk-row.js';
import type { RunFilter } from '../../reads/queries.js';

export interface StartBulkOperation {
  readonly kind: BulkKind;
  readonly filter: RunFilter;
  readonly actor: string;
  readonly reason: string;
  /** Null: every call starts another operation. */
  readonly requestId: string | null;
  /** Only of a SIGNAL. */
  readonly signal: { readonly name: string; readonly payload: Payload | null } | null;
  /** Runs per second. */
  readonly rate: number;
  /** Runs that match now. */
  readonly matched: number;
  readonly isExact: boolean;
}

const START_BULK = defineStatement(
  'start_bulk_operation',
  `insert into perdure.bulk_operations as o (operation_id, created_at, updated_at, due_at, namespace, kind, status, actor, reason, request_id,
    filter, signal_name, payload, payload_encoding, rate, matched, is_exact, actions)
  select $1::uuid, perdure.clock(), perdure.clock(), perdure.clock(), $2::text, $3::text, 'RUNNING', $4::text, $5::text, $6::text,
    $7::text::jsonb, $8::text, $9::bytea, $10::text, $11::int, $12::int, $13::boolean,
    perdure.with_bulk_action('[]', 'START', $4, $5)
  on conflict do nothing
  returning ${BULK_COLUMNS}`,
);

const FIND_STARTED = defineStatement(
  'find_started_bulk_operation',
  `select ${BULK_COLUMNS} from perdure.bulk_operations o where o.namespace = $1 and o.request_id = $2`,
);

/** `created`: false when an earlier call with the same request id has started it. */
export interface StartedBulkOperation {
  readonly operation: BulkOperation;
  readonly created: boolean;
}

export async function startBulkOperation(db: Database, command: StartBulkOperation): Promise<StartedBulkOperation> {
  const { kind, filter, actor, reason, requestId, signal, rate, matched, isExact } = command;
  const [row] = await db.query<BulkRow>(START_BULK, [
    newOperationId(),
    filter.namespace,
    kind,
    actor,
    reason,
    requestId,
    JSON.stringify(filter),
    signal?.name ?? null,
    signal?.payload?.data ?? null,
    signal?.payload?.encoding ?? null,
    rate,
    matched,
    isExact,
  ]);
  if (row !== undefined) return { operation: bulkOf(row), created: true };
  const [found] = await db.query<BulkRow>(FIND_STARTED, [filter.namespace, requestId]);
  if (found === undefined) throw new Error("Statement 'start_bulk_operation' inserted nothing, and there is nothing.");
  return { operation: bulkOf(found), created: false };
}

/** @returns the operation that was started with the request id, or null */
export async function findStartedBulkOperation(
  db: Database,
  namespace: string,
  requestId: string,
): Promise<BulkOperation | null> {
  const [row] = await db.query<BulkRow>(FIND_STARTED, [namespace, requestId]);
  return row === undefined ? null : bulkOf(row);
}
