/**
 * Tells parents that their children have ended: their CHILD steps end, and suspended parents wake. The SQL is the function
 * `perdure.tell_parents`, which locks the parents and reads the children.
 *
 * The ends are in `child_ends` until the parent was told, in the same statement. After a crash the sweep tells the parent. A parent that has ended, or no longer waits, is told nothing.
 */
import type { RunHolder } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { QueueRef } from '../../model.js';
import { type KeeperSlots, queryWaking, wakingStatements } from '../runs/lease-to-keepers.js';

/** A parent that has something to take. */
export interface ToldParent {
  readonly namespace: string;
  readonly runId: string;
  readonly effect: /** It was suspended and is claimable now. */
    | { readonly kind: 'woken'; readonly queue: QueueRef; readonly workflowType: string }
    /** It was suspended, and is leased to the worker that keeps it in memory. */
    | { readonly kind: 'leased' }
    /** It waits for more children, and wakes after this time in any case. */
    | { readonly kind: 'wakes'; readonly inMs: number }
    /** Its worker has something to take. */
    | { readonly kind: 'arrived'; readonly holder: RunHolder }
    | { readonly kind: 'none' };
}

const UNTOLD_AMONG = defineStatement(
  'untold_among',
  `select e.child_id, r.parent_run_id
  from perdure.child_ends e
  left join lateral (select * from perdure.workflow_runs x where x.run_id = e.child_id limit 1) r on true
  where e.child_id = any($1::uuid[]) order by e.child_id`,
);

/** Tells them and forgets the ends. */
const TELL_PARENTS = wakingStatements('tell_parents', {
  told: 'select * from perdure.tell_parents($1::uuid[])',
  also: `locked as materialized (
      select e.child_id from perdure.child_ends e
      where e.child_id = any($1::uuid[]) and (select count(*) from told) >= 0 order by e.child_id for update
    ),
    forgotten as (delete from perdure.child_ends e using locked l where e.child_id = l.child_id)`,
  parameters: 1,
  on: 'l.run_id = t.run_id',
});

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

/**
 * @param childRunIds those that have not ended, or have no parent, are left out
 * @param keepers slots that suspended parents may be leased to
 */
export async function tellParents(
  db: Database,
  childRunIds: readonly string[],
  keepers?: KeeperSlots,
): Promise<ToldParent[]> {
  if (childRunIds.length === 0) return [];
  // Read first: the word of a child that ends meanwhile must not be lost.
  const untold = await db.query<{ child_id: string; parent_run_id: string | null }>(UNTOLD_AMONG, [
    plainArray([...new Set(childRunIds)]),
  ]);
  if (untold.length === 0) return [];
  const ids = plainArray(untold, ({ child_id }) => child_id);
  const parents = [...new Set(untold.flatMap(({ parent_run_id: parent }) => (parent === null ? [] : [parent])))];
  const { rows, leased } = await queryWaking<Row>(db, TELL_PARENTS, [ids], parents, keepers);
  return rows.map((row) => ({
    namespace: row.namespace,
    runId: row.run_id,
    effect: leased.has(row.run_id) ? { kind: 'leased' } : effectOf(row),
  }));
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
