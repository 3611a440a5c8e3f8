/** A run with its children, their children and so on, level by level, bounded. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { Run } from '../model.js';
import { RUN_COLUMNS, type RunRow, runOf } from './run-row.js';

export interface RunTreeNode {
  readonly run: Run;
  /** 0: the run at the top. */
  readonly depth: number;
  /** It has more children than were requested. */
  readonly hasMoreChildren: boolean;
}

const MAX_RUNS = 1_000;
const MAX_DEPTH = 100;

/** The recursion yields the runs level by level, and ends when the limit is reached. */
const READ_RUN_TREE = defineStatement(
  'read_run_tree',
  `with recursive tree as (
    select r.run_id, 0 as depth from perdure.workflow_runs r where r.run_id = $1::uuid
    union all
    select c.run_id, t.depth + 1
    from tree t
    cross join lateral (
      select x.run_id from perdure.workflow_runs x where x.parent_run_id = t.run_id order by x.parent_run_id, x.run_id limit $2::int) c
    where t.depth < $4::int
  ),
  top as materialized (select *, row_number() over () as place from (select * from tree limit $3::int) t)
  select ${RUN_COLUMNS}, t.depth,
    exists (select 1 from perdure.workflow_runs x where x.parent_run_id = t.run_id order by x.parent_run_id, x.run_id offset $2::int)
      as has_more_children
  from top t
  join perdure.workflow_runs r on r.run_id = t.run_id
  order by t.place`,
);

/** @param maxChildren of each run, the oldest first */
export async function readRunTree(
  db: Reader,
  runId: string,
  maxChildren: number,
): Promise<{ readonly nodes: readonly RunTreeNode[]; readonly hasMore: boolean }> {
  const rows = await db.query<RunRow & { depth: number; has_more_children: boolean }>(READ_RUN_TREE, [
    runId,
    maxChildren,
    MAX_RUNS + 1,
    MAX_DEPTH,
  ]);
  return {
    nodes: rows.slice(0, MAX_RUNS).map((row) => ({
      run: runOf(row),
      depth: row.depth,
      hasMoreChildren: row.has_more_children,
    })),
    hasMore: rows.length > MAX_RUNS,
  };
}
