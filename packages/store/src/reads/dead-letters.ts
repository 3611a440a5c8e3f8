/**
 * Dead letters: runs that have FAILED and that nobody has dealt with, in groups that failed in the same way (decision 0031).
 *
 * Groups are found one after the other in the index of dead letters, without reading their runs. Of each group a bounded number of runs is read.
 */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { FailureReason } from '../model.js';

/** The predicate of the index `workflow_runs_dead_letters`, for runs aliased `r`. */
export const IS_DEAD_LETTER = `r.status = 'FAILED' and (r.parent_run_id is null or r.parent_close = 'ABANDON')
    and (r.resolved_at is null or r.resolved_at < r.finished_at)`;

/** The expression of that index. */
export const FINGERPRINT = 'perdure.failure_fingerprint(r.workflow_type, r.failure)';

/** Most runs of a group that are counted. */
export const MAX_COUNTED_FAILURES = 10_000;

/** Most groups that one statement looks at: those of other types are passed over. */
const MAX_HOPS = 1_000;

const LIST_FAILURE_GROUPS = defineStatement(
  'list_failure_groups',
  `with recursive hop as (
    (select ${FINGERPRINT} as fingerprint, r.run_id, r.workflow_type, 1 as nth from perdure.workflow_runs r
      where r.namespace = $1 and ${IS_DEAD_LETTER} and ${FINGERPRINT} > $2::text
      order by ${FINGERPRINT}, r.run_id limit 1)
    union all
    select next.fingerprint, next.run_id, next.workflow_type, h.nth + 1
    from hop h
    cross join lateral (
      select ${FINGERPRINT} as fingerprint, r.run_id, r.workflow_type from perdure.workflow_runs r
      where r.namespace = $1 and ${IS_DEAD_LETTER} and ${FINGERPRINT} > h.fingerprint
      order by ${FINGERPRINT}, r.run_id limit 1
    ) next
    where h.nth < $5::int
  ),
  found as materialized (select * from hop h where $3::text is null or h.workflow_type = $3 limit $4::int),
  hopped as materialized (
    select max(nth) as hops, max(fingerprint) as last from hop h where h.nth <= (
      select case when count(*) = $4 then max(f.nth) else $5 end from found f)
  )
  select f.fingerprint, f.workflow_type, c.runs, c.first_at, c.last_at, s.run_id as newest_run_id, s.failure, p.hops, p.last
  from hopped p
  left join found f on true
  left join lateral (
    select count(*)::int as runs, min(x.finished_at) as first_at, max(x.finished_at) as last_at
    from (select r.finished_at from perdure.workflow_runs r
      where r.namespace = $1 and ${IS_DEAD_LETTER} and ${FINGERPRINT} = f.fingerprint
      order by r.run_id desc limit ${MAX_COUNTED_FAILURES}) x
  ) c on true
  left join lateral (
    select r.run_id, jsonb_build_object('type', r.failure->>'type', 'code', r.failure->>'code', 'stepId', r.failure->>'stepId',
      'message', left(r.failure->>'message', 1000), 'reason', r.failure->>'reason') as failure
    from perdure.workflow_runs r
    where r.namespace = $1 and ${IS_DEAD_LETTER} and ${FINGERPRINT} = f.fingerprint
    order by r.run_id desc limit 1
  ) s on true
  order by f.fingerprint`,
);

/** Dead letters that failed in the same way. */
export interface FailureGroup {
  readonly fingerprint: string;
  readonly workflowType: string;
  /** Stops at {@link MAX_COUNTED_FAILURES}. */
  readonly runs: number;
  /** When the first and the last of the counted runs failed. */
  readonly firstAt: Date;
  readonly lastAt: Date;
  readonly newestRunId: string;
  /** That of the newest run; the message is cut to 1,000 characters. */
  readonly failure: GroupFailure;
}

export interface GroupFailure {
  readonly type: string;
  readonly code: string | null;
  readonly stepId: string | null;
  readonly message: string;
  readonly reason: FailureReason;
}

export interface FailureGroupPage {
  readonly groups: readonly FailureGroup[];
  /** The next page continues after this fingerprint; null on the last page. */
  readonly next: string | null;
}

interface Row {
  readonly fingerprint: string | null;
  readonly workflow_type: string;
  readonly runs: number;
  readonly first_at: Date;
  readonly last_at: Date;
  readonly newest_run_id: string | null;
  readonly failure: GroupFailure;
  readonly hops: number | null;
  readonly last: string | null;
}

/**
 * @param page at most `limit` groups, those after the fingerprint `after`
 * @returns groups in the order of their fingerprints; with a workflow type a page may have fewer although another one follows
 */
export async function listFailureGroups(
  db: Reader,
  { namespace, workflowType }: { readonly namespace: string; readonly workflowType: string | null },
  { limit, after }: { readonly limit: number; readonly after: string | null },
): Promise<FailureGroupPage> {
  const rows = await db.query<Row>(LIST_FAILURE_GROUPS, [namespace, after ?? '', workflowType, limit, MAX_HOPS]);
  const groups = rows.flatMap((row) =>
    // A group whose last run was dealt with meanwhile has none.
    row.fingerprint === null || row.newest_run_id === null
      ? []
      : [
          {
            fingerprint: row.fingerprint,
            workflowType: row.workflow_type,
            runs: row.runs,
            firstAt: row.first_at,
            lastAt: row.last_at,
            newestRunId: row.newest_run_id,
            failure: row.failure,
          },
        ],
  );
  const [first] = rows;
  const isFull = groups.length >= limit || (first?.hops ?? 0) >= MAX_HOPS;
  return { groups, next: isFull ? (first?.last ?? null) : null };
}
