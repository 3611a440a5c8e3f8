/**
 * Lists and counts runs. The order is newest first by run id, and a page continues after a run id: runs that are started or change
 * meanwhile never cause a skipped or repeated run.
 */
import type { Parameter, Reader } from '../database/database.js';
import { textArray } from '../database/literals.js';
import { defineStatement, type Statement } from '../database/statement.js';
import type { RunStatus } from '../model.js';
import { FINGERPRINT, IS_DEAD_LETTER } from './dead-letters.js';
import type { RunFilter, RunPage, StatusCount } from './queries.js';
import { shownStatus } from './run-pauses.js';
import { RUN_COLUMNS, type RunRow, runOf } from './run-row.js';

/** What the caller asks for, by the status that is shown; the stored ones come first, because an index may fit them. */
export const FILTER = `r.namespace = $1
    and ($2::text[] is null or (r.status = any($2::text[] || case when 'PAUSED' = any($2) then '{PENDING,SLEEPING,WAITING}'::text[] end)
      and ${shownStatus('r')} = any($2::text[])))
    and ($3::text is null or r.workflow_type = $3)
    and ($4::text is null or r.task_queue = $4)
    and ($5::text is null or r.workflow_id = $5)
    and ($6::text is null or r.build = $6)
    and ($7::timestamptz is null or r.created_at >= $7)
    and ($8::timestamptz is null or r.created_at < $8)`;

export const HELD = `(not $9::boolean or (r.paused_at is not null and r.finished_at is null and (
      -- Not EXISTS, which may be planned as a scan of all pauses.
      select true from perdure.run_pauses p where p.run_id = r.run_id and p.resumed_at is null and p.failure is not null limit 1) is true))`;

/** Other statements for paused runs, because they are few and have an index. */
const PAUSED = `r.paused_at is not null and r.finished_at is null and ${HELD}`;

/** The same for runs that were compensated. The other filters are $9: held, $10: parent. */
const COMPENSATED = `r.compensation = $11::text and ${HELD} and ${FILTER} and ($10::uuid is null or r.parent_run_id = $10::uuid)`;

/** Other statements for dead letters, because they have an index. The other filters are $9: held, $10: parent, $11: compensation. */
const DEAD = `${IS_DEAD_LETTER} and ${HELD} and ${FILTER} and ($10::uuid is null or r.parent_run_id = $10::uuid)
    and ($11::text is null or r.compensation = $11)`;

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
  `select ${shownStatus('r')} as status, count(*)::float8 as count from perdure.workflow_runs r where ${FILTER} group by 1 order by 1`,
);

const LIST_PAUSED = defineStatement(
  'list_paused',
  `select ${RUN_COLUMNS} from perdure.workflow_runs r
  where ${PAUSED} and ${FILTER} and ($10::uuid is null or r.parent_run_id = $10::uuid) and ($11::uuid is null or r.run_id < $11::uuid)
  order by r.run_id desc
  limit $12::int`,
);

const LIST_COMPENSATED = defineStatement(
  'list_compensated',
  `select ${RUN_COLUMNS} from perdure.workflow_runs r
  where ${COMPENSATED} and ($12::uuid is null or r.run_id < $12::uuid)
  order by r.run_id desc
  limit $13::int`,
);

const COUNT_COMPENSATED = defineStatement(
  'count_compensated',
  `select ${shownStatus('r')} as status, count(*)::float8 as count from perdure.workflow_runs r where ${COMPENSATED} group by 1 order by 1`,
);

const LIST_DEAD_LETTERS = defineStatement(
  'list_dead_letters',
  `select ${RUN_COLUMNS} from perdure.workflow_runs r
  where ${DEAD} and ($12::uuid is null or r.run_id < $12::uuid)
  order by r.run_id desc
  limit $13::int`,
);

const LIST_DEAD_LETTERS_ALIKE = defineStatement(
  'list_dead_letters_alike',
  `select ${RUN_COLUMNS} from perdure.workflow_runs r
  where ${FINGERPRINT} = $12::text and ${DEAD} and ($13::uuid is null or r.run_id < $13::uuid)
  order by r.run_id desc
  limit $14::int`,
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
  `select ${shownStatus('r')} as status, count(*)::float8 as count from perdure.workflow_runs r where ${CHILDREN} group by 1 order by 1`,
);

export function filterParameters(filter: RunFilter): Parameter[] {
  return [
    filter.namespace,
    filter.statuses.length === 0 ? null : textArray(filter.statuses),
    filter.workflowType,
    filter.taskQueue,
    filter.workflowId,
    filter.build,
    filter.createdAfter?.toISOString() ?? null,
    filter.createdBefore?.toISOString() ?? null,
  ];
}

function isPaused({ statuses, held }: RunFilter): boolean {
  return held || (statuses.length === 1 && statuses[0] === 'PAUSED');
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
  const only = filterParameters(filter);
  const within = [page.after, page.limit + 1];
  const rows = await db.query<RunRow>(...statementFor(filter, only, within));
  const runs = rows.slice(0, page.limit).map(runOf);
  return { runs, next: rows.length > page.limit ? (runs.at(-1)?.runId ?? null) : null };
}

function statementFor(
  filter: RunFilter,
  only: readonly Parameter[],
  within: readonly Parameter[],
): [Statement, Parameter[]] {
  const { held, parentRunId, compensation, failureFingerprint } = filter;
  const dead = [...only, held, parentRunId, compensation];
  if (failureFingerprint !== null) return [LIST_DEAD_LETTERS_ALIKE, [...dead, failureFingerprint, ...within]];
  if (filter.unresolved) return [LIST_DEAD_LETTERS, [...dead, ...within]];
  if (compensation !== null) return [LIST_COMPENSATED, [...only, held, parentRunId, compensation, ...within]];
  if (isPaused(filter)) return [LIST_PAUSED, [...only, held, parentRunId, ...within]];
  if (parentRunId === null) return [LIST_RUNS, [...only, ...within]];
  return [LIST_CHILDREN, [...only, parentRunId, ...within]];
}

interface CountRow {
  readonly status: RunStatus;
  readonly count: number;
}

/** @returns a count for each status that occurs */
export async function countRuns(db: Reader, filter: RunFilter): Promise<readonly StatusCount[]> {
  const only = filterParameters(filter);
  const { held, parentRunId, compensation } = filter;
  const rows = await (compensation !== null
    ? db.query<CountRow>(COUNT_COMPENSATED, [...only, held, parentRunId, compensation])
    : parentRunId === null
      ? db.query<CountRow>(COUNT_RUNS, only)
      : db.query<CountRow>(COUNT_CHILDREN, [...only, parentRunId]));
  return rows.map(({ status, count }) => ({ status, count }));
}
