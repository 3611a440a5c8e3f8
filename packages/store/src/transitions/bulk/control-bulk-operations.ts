/**
 * Pauses, resumes and aborts bulk operations. Once a pause or an abort is answered, no further run is changed: it waits for the chunk under way, whose
 * server holds the lock of the row, and the next chunk reads the status from the locked row. What was done to runs before stays.
 */
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import type { BulkActionKind } from '../../model.js';
import { BULK_COLUMNS, type BulkOperation, type BulkRow, bulkOf } from '../../reads/bulk-row.js';
import { unknownVerdict } from '../parts/batch.js';

export interface ControlBulkOperation {
  readonly namespace: string;
  readonly operationId: string;
  readonly act: Exclude<BulkActionKind, 'START'>;
  readonly actor: string;
  readonly reason: string;
}
export type ControlBulkOutcome =
  | { readonly kind: 'operation_not_found' }
  /** `ended`: nothing was changed, because it has ended in another way. */
  | { readonly kind: 'changed' | 'unchanged' | 'ended'; readonly operation: BulkOperation };

const CONTROL_BULK = defineStatement(
  'control_bulk_operation',
  `with locked as materialized (
    select o.operation_id, o.status from perdure.bulk_operations o
    where o.operation_id = $1::uuid and o.namespace = $2
    for no key update
  ),
  judged as materialized (
    select l.operation_id, case
      when l.status in ('COMPLETED', 'ABORTED') then case when l.status = 'ABORTED' and $3::text = 'ABORT' then 'unchanged' else 'ended' end
      when ($3 = 'PAUSE' and l.status = 'PAUSED') or ($3 = 'RESUME' and l.status = 'RUNNING') then 'unchanged'
      else 'changed' end as verdict
    from locked l
  ),
  changed as (
    update perdure.bulk_operations o
    set status = case $3 when 'PAUSE' then 'PAUSED' when 'RESUME' then 'RUNNING' else 'ABORTED' end,
      due_at = case when $3 = 'RESUME' then perdure.clock() end,
      finished_at = case when $3 = 'ABORT' then perdure.clock() end,
      chunk = case when $3 <> 'ABORT' then o.chunk end,
      actions = perdure.with_bulk_action(o.actions, $3, $4::text, $5::text), updated_at = perdure.clock()
    from judged j
    where j.verdict = 'changed' and o.operation_id = j.operation_id
    returning ${BULK_COLUMNS}
  )
  select j.verdict, c.* from judged j join changed c on true
  union all
  select j.verdict, ${BULK_COLUMNS} from judged j join perdure.bulk_operations o on o.operation_id = j.operation_id
  where j.verdict <> 'changed'`,
);

export async function controlBulkOperation(db: Database, command: ControlBulkOperation): Promise<ControlBulkOutcome> {
  const { namespace, operationId, act, actor, reason } = command;
  const [row] = await db.query<BulkRow & { verdict: string }>(CONTROL_BULK, [
    operationId,
    namespace,
    act,
    actor,
    reason,
  ]);
  if (row === undefined) return { kind: 'operation_not_found' };
  switch (row.verdict) {
    case 'changed':
    case 'unchanged':
    case 'ended':
      return { kind: row.verdict, operation: bulkOf(row) };
    default:
      return unknownVerdict('control_bulk_operation', row.verdict);
  }
}
