/**
 * The next runs that match a filter, the oldest first by run id. One statement looks at a bounded number of runs, so a filter that few runs
 * match takes many short statements.
 *
 * Of a bulk operation only the runs that existed when it was started, and those that continue one of them: they have younger ids, so none is
 * passed over.
 */
import type { Reader } from '../database/database.js';
import { defineStatement, type Statement } from '../database/statement.js';
import { FINGERPRINT, IS_DEAD_LETTER } from './dead-letters.js';
import { FILTER, filterParameters, HELD } from './list-runs.js';
import type { RunFilter } from './queries.js';

/** Most runs that one statement looks at: 5 to 20 ms. */
export const MAX_SCANNED = 5_000;

/** A statement for each index that may be read. Parameters: $14 the run id after which, $15 most runs to look at, $16 most to return, $17 the operation, $18 only paused runs. */
function matchingRuns(name: string, scan: string): Statement {
  return defineStatement(
    name,
    `with since as materialized (
      select coalesce((select o.created_at from perdure.bulk_operations o where o.operation_id = $17::uuid), perdure.clock()) as at
    ),
    scanned as materialized (
      select r.run_id, (${FILTER} and ${HELD}
        and ($10::uuid is null or r.parent_run_id = $10::uuid)
        and ($11::text is null or r.compensation = $11)
        and (not $18::boolean or (r.paused_at is not null and r.finished_at is null))
        and (not $12::boolean or (${IS_DEAD_LETTER}))
        and ($13::text is null or ${FINGERPRINT} = $13)
        -- Not EXISTS, which may be planned as a scan of all runs.
        and (r.created_at <= (select at from since) or (r.origin_kind = 'CONTINUE' and coalesce((
          select f.created_at from perdure.workflow_runs f where f.run_id = r.first_run_id) <= (select at from since), false)))
      ) as matches
      from perdure.workflow_runs r
      where ${scan} and r.run_id > coalesce($14::uuid, '00000000-0000-0000-0000-000000000000'::uuid)
      order by r.run_id
      limit $15::int
    ),
    matching as materialized (select s.run_id from scanned s where s.matches order by s.run_id limit $16::int)
    select (select count(*)::int from scanned) as scanned,
      (select s.run_id from scanned s order by s.run_id desc limit 1) as last_scanned,
      coalesce((select jsonb_agg(m.run_id order by m.run_id) from matching m), '[]') as run_ids`,
  );
}

const OF_ALL = matchingRuns('matching_runs', 'r.namespace = $1');
const OF_FAILED = matchingRuns('matching_failed_runs', `r.namespace = $1 and r.status = 'FAILED'`);
const OF_ALIKE = matchingRuns(
  'matching_dead_letters',
  `r.namespace = $1 and ${IS_DEAD_LETTER} and ${FINGERPRINT} = $13::text`,
);
const OF_PAUSED = matchingRuns(
  'matching_paused_runs',
  'r.namespace = $1 and r.paused_at is not null and r.finished_at is null',
);
const OF_CHILDREN = matchingRuns('matching_children', 'r.parent_run_id = $10::uuid');

export interface MatchingRuns {
  /** In rising order. */
  readonly runIds: readonly string[];
  /** Runs up to this one were looked at; null: none was. */
  readonly cursor: string | null;
  /** There are no more. */
  readonly isEnd: boolean;
}

/**
 * @param page at most `limit` runs, those after the run id `after`, of the first `scan` runs
 * @param operationId null: runs that exist now
 */
export async function findMatchingRuns(
  db: Reader,
  filter: RunFilter,
  {
    after,
    limit,
    scan = MAX_SCANNED,
  }: { readonly after: string | null; readonly limit: number; readonly scan?: number },
  operationId: string | null,
): Promise<MatchingRuns> {
  const { held, parentRunId, compensation, unresolved, failureFingerprint } = filter;
  const only = [held, parentRunId, compensation, unresolved || failureFingerprint !== null, failureFingerprint];
  const [row] = await db.query<{ scanned: number; last_scanned: string | null; run_ids: readonly string[] }>(
    statementFor(filter),
    [...filterParameters(filter), ...only, after, scan, limit, operationId, filter.paused],
  );
  if (row === undefined) throw new Error("Statement 'matching_runs' answered without a row.");
  const isFull = row.run_ids.length >= limit;
  return {
    runIds: row.run_ids,
    cursor: isFull ? (row.run_ids.at(-1) ?? null) : row.last_scanned,
    isEnd: !isFull && row.scanned < scan,
  };
}

function statementFor({ failureFingerprint, unresolved, statuses, held, paused, parentRunId }: RunFilter): Statement {
  if (failureFingerprint !== null) return OF_ALIKE;
  if (parentRunId !== null) return OF_CHILDREN;
  if (unresolved || (statuses.length === 1 && statuses[0] === 'FAILED')) return OF_FAILED;
  if (held || paused || (statuses.length === 1 && statuses[0] === 'PAUSED')) return OF_PAUSED;
  return OF_ALL;
}
