/**
 * Tells parents that their children have ended: their CHILD steps end, and suspended parents wake. The SQL is the function
 * `perdure.tell_parents`, which locks the parents and reads the children.
 *
 * The ends are in `child_ends` until the parent was told. When they are not taken from there, because of a crash, the sweep tells the parent
 * again, whose step has ended then. A parent that has ended, or no longer waits, is told nothing.
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
  `select e.child_id from perdure.child_ends e where e.child_id = any($1::uuid[]) order by e.child_id`,
);

const TELL_PARENTS = defineStatement('tell_parents', 'select * from perdure.tell_parents($1::uuid[])');

const FORGET_ENDS = defineStatement(
  'forget_ends',
  `with locked as materialized (
    select e.child_id from perdure.child_ends e where e.child_id = any($1::uuid[]) order by e.child_id for update
  )
  delete from perdure.child_ends e using locked l where e.child_id = l.child_id`,
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
  // Read first: the word of a child that ends between the two statements below must not be lost.
  const untold = await db.query<{ child_id: string }>(UNTOLD_AMONG, [plainArray([...new Set(childRunIds)])]);
  if (untold.length === 0) return [];
  const ids = plainArray(untold, ({ child_id }) => child_id);
  const rows = await db.query<Row>(TELL_PARENTS, [ids]);
  await db.query(FORGET_ENDS, [ids]);
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
