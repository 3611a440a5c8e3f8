/** Reads bulk operations. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import { BULK_COLUMNS, type BulkOperation, type BulkRow, bulkOf } from './bulk-row.js';

const GET_BULK = defineStatement(
  'get_bulk_operation',
  `select ${BULK_COLUMNS} from perdure.bulk_operations o where o.operation_id = $1::uuid and o.namespace = $2`,
);

const LIST_BULK = defineStatement(
  'list_bulk_operations',
  `select ${BULK_COLUMNS} from perdure.bulk_operations o
  where o.namespace = $1 and ($2::uuid is null or o.operation_id < $2::uuid)
  order by o.operation_id desc
  limit $3::int`,
);

const BULK_DUE = defineStatement(
  'bulk_due_in',
  `select (extract(epoch from o.due_at - perdure.clock()) * 1000)::float8 as in_ms
  from perdure.bulk_operations o where o.status = 'RUNNING' order by o.due_at limit 1`,
);

/** @returns null when there is none in the namespace */
export async function getBulkOperation(
  db: Reader,
  { namespace, operationId }: { readonly namespace: string; readonly operationId: string },
): Promise<BulkOperation | null> {
  const [row] = await db.query<BulkRow>(GET_BULK, [operationId, namespace]);
  return row === undefined ? null : bulkOf(row);
}

export interface BulkPage {
  readonly operations: readonly BulkOperation[];
  /** The next page continues after this operation; null on the last page. */
  readonly next: string | null;
}

/** @returns operations, the newest first */
export async function listBulkOperations(
  db: Reader,
  namespace: string,
  { limit, after }: { readonly limit: number; readonly after: string | null },
): Promise<BulkPage> {
  const rows = await db.query<BulkRow>(LIST_BULK, [namespace, after, limit + 1]);
  const operations = rows.slice(0, limit).map(bulkOf);
  return { operations, next: rows.length > limit ? (operations.at(-1)?.operationId ?? null) : null };
}

/** @returns ms until the next chunk of any operation is due, negative when it has been; null when none is under way */
export async function bulkDueInMs(db: Reader): Promise<number | null> {
  const [row] = await db.query<{ in_ms: number }>(BULK_DUE, []);
  return row?.in_ms ?? null;
}
