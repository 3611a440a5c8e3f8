/**
 * Tells parents that their children have ended: their CHILD steps end, and suspended parents wake. The SQL is the function
 * `perdure.tell_parents`, which locks the parents and reads the children.
 *
 * The children are marked as told by a second statement, so that no statement locks a parent and a child. When it is not carried
 * out, the sweep tells the parent again, whose step has ended then. A parent that has ended, or no longer waits, is told nothing.
 */
import type { RunHolder } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { QueueRef } from '../../model.js';

/** A parent that has something to take. */
export interface ToldParent {
  readonly namespace: string;
  readonly runId: string;
  readonly effect: /** It was suspended and is claimable now. */
    | { readonly kind: 'woken'; readonly queue: QueueRef; readonly workflowType: string }
    /** It waits for more children, and wakes after this time in any case. */
    | { readonly kind: 'wakes'; readonly inMs: number }
    /** Its worker has something to take. */
    | { readonly kind: 'arrived'; readonly holder: RunHolder }
    | { readonly kind: 'none' };
}

const UNTOLD_AMONG = defineStatement(
  'untold_among',
  `select r.run_id from perdure.workflow_runs r
  where r.run_id = any($1::uuid[]) and r.finished_at is not null and r.parent_run_id is not null and r.parent_told is null
  order by r.run_id`,
);

const TELL_PARENTS = defineStatement('tell_parents', 'select * from perdure.tell_parents($1::uuid[])');

const MARK_TOLD = defineStatement(
  'mark_told',
  `with locked as materialized (
    select r.run_id from perdure.workflow_runs r
    where r.run_id = any($1::uuid[]) and r.finished_at is not null and r.parent_run_id is not null and r.parent_told is null
    order by r.run_id
    for no key update
  )
  update perdure.workflow_runs r set parent_told = true from locked l where r.run_id = l.run_id`,
);

interface Row {
  readonly run_id: string;
  readonly namespace: string;
  readonly woken: boolean;
  readonly task_queue: string;
  readonly workflow_type: string;
  readonly leased_by: string | null;
  readonly lease_token: number;
  readonly wake_in_ms: number | null;
}

/** @param childRunIds those that have not ended, or have no parent, are left out */
export async function tellParents(db: Database, childRunIds: readonly string[]): Promise<ToldParent[]> {
  if (childRunIds.length === 0) return [];
  // Read first: a child that ends between the two statements below must not be marked.
  const untold = await db.query<{ run_id: string }>(UNTOLD_AMONG, [plainArray([...new Set(childRunIds)])]);
  if (untold.length === 0) return [];
  const ids = plainArray(untold, ({ run_id }) => run_id);
  const rows = await db.query<Row>(TELL_PARENTS, [ids]);
  await db.query(MARK_TOLD, [ids]);
  return rows.map((row) => ({ namespace: row.namespace, runId: row.run_id, effect: effectOf(row) }));
}

function effectOf(row: Row): ToldParent['effect'] {
  if (row.woken) {
    const { namespace, task_queue: taskQueue, workflow_type: workflowType } = row;
    return { kind: 'woken', queue: { namespace, taskQueue }, workflowType };
  }
  if (row.leased_by !== null) {
    return { kind: 'arrived', holder: { workerId: row.leased_by, leaseToken: row.lease_token } };
  }
  return row.wake_in_ms === null ? { kind: 'none' } : { kind: 'wakes', inMs: Math.max(0, row.wake_in_ms) };
}
