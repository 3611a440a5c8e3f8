/** Task queues and workflow types that are paused: who, when and why. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { DispatchKind, DispatchPause } from '../model.js';

const LIST_DISPATCH_PAUSES = defineStatement(
  'list_dispatch_pauses',
  `select p.kind, p.name, p.paused_at, p.paused_by, p.reason
  from perdure.dispatch_pauses p
  where p.namespace = $1 order by p.kind, p.name limit 10000`,
);

interface Row {
  readonly kind: DispatchKind;
  readonly name: string;
  readonly paused_at: Date;
  readonly paused_by: string;
  readonly reason: string;
}

/** @returns queues first, by name */
export async function listDispatchPauses(db: Reader, namespace: string): Promise<readonly DispatchPause[]> {
  const rows = await db.query<Row>(LIST_DISPATCH_PAUSES, [namespace]);
  return rows.map((row) => ({
    namespace,
    kind: row.kind,
    name: row.name,
    pausedAt: row.paused_at,
    pausedBy: row.paused_by,
    reason: row.reason,
  }));
}
