/**
 * Lists and counts runs. The order is newest first by run id, and a page continues after a run id: runs that are started or change
 * meanwhile never cause a skipped or repeated run.
 */
import type { Parameter, Reader } from '../database/database.js';
import { textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import type { RunStatus } from '../model.js';
import type { RunFilter, RunPage, StatusCount } from './queries.js';
import { RUN_COLUMNS, type RunRow, runOf } from './run-row.js';

const FILTER = `r.namespace = $1
    and ($2::text[] is null or r.status = any($2::text[]))
    and ($3::text is null or r.workflow_type = $3)
    and ($4::text is null or r.task_queue = $4)
    and ($5::text is null or r.workflow_id = $5)
    and ($6::text is null or r.build = $6)
    and ($7::timestamptz is null or r.created_at >= $7)
    and ($8::timestamptz is null or r.created_at < $8)`;

/** Other statements than without a parent, because their plans read another index. */
const CHILDREN = `r.parent_run_id = $9::uuid and ${FILTER}`;

const LIST_RUNS = defineStatement(
  'list_runs',
  `select ${RUN_COLUMNS} from perdure.workflow_runs r
  where ${FILTER} and ($9::uuid is null or r.run_id < $9::uuid)
  order by r.run_id desc
  limit $10::int`,
);

const COUNT_RUNS = defineStatement(
  'count_runs',
  `select r.status, count(*)::float8 as count from perdure.workflow_runs r where ${FILTER} group by r.status order by r.status`,
);

const LIST_CHILDREN = defineStatement(
  'list_children',
  `select ${RUN_COLUMNS} from perdure.workflow_runs r
  where ${CHILDREN} and ($10::uuid is null or r.run_id < $10::uuid)
  order by r.parent_run_id, r.run_id desc
  limit $11::int`,
);

const COUNT_CHILDREN = defineStatement(
  'count_children',
  `select r.status, count(*)::float8 as count from perdure.workflow_runs r where ${CHILDREN} group by r.status order by r.status`,
);

function filterParameters(filter: RunFilter): Parameter[] {
  return [
    filter.namespace,
    filter.statuses.length === 0 ? null : textArray(filter.statuses),
    filter.workflowType,
    filter.taskQueue,
    filter.workflowId,
    filter.build,
    filter.createdAfter?.toISOString() ?? null,
    filter.createdBefore?.toISOString() ?? null,
    ...(filter.parentRunId === null ? [] : [filter.parentRunId]),
  ];
}

/**
 * @param page `limit` runs, those after the run id `after`
 * @returns runs without payloads, newest first
 */
export async function listRuns(
  db: Reader,
  filter: RunFilter,
  page: { readonly limit: number; readonly after: string | null },
): Promise<RunPage> {
  const rows = await db.query<RunRow>(filter.parentRunId === null ? LIST_RUNS : LIST_CHILDREN, [
    ...filterParameters(filter),
    page.after,
    page.limit + 1,
  ]);
  const runs = rows.slice(0, page.limit).map(runOf);
  return { runs, next: rows.length > page.limit ? (runs.at(-1)?.runId ?? null) : null };
}

/** @returns a count for each status that occurs */
export async function countRuns(db: Reader, filter: RunFilter): Promise<readonly StatusCount[]> {
  const rows = await db.query<{ status: RunStatus; count: number }>(
    filter.parentRunId === null ? COUNT_RUNS : COUNT_CHILDREN,
    filterParameters(filter),
  );
  return rows.map(({ status, count }) => ({ status, count }));
}
