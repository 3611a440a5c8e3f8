/**
 * Leases runs to waiting slots, many at once.
 *
 * The runs are claimed in order of (priority, age) with SKIP LOCKED, so any number of servers claim in parallel without waiting for
 * each other. Whether a worker may get runs is read in the same statement, so no run is leased to a worker whose drain or
 * deregistration was acknowledged. Every claim raises the lease token; calls with an earlier token are refused from then on.
 *
 * A suspect (a run that lost its worker at least twice in a row and may be the cause) is leased only to a worker that holds no
 * other suspect, so that a dead worker shows which run is the cause (decision 0014). Two claims for one worker at the same moment
 * may each lease it a suspect; then its death counts for neither.
 *
 * The statement may miss a run that becomes claimable while it runs; the caller claims again on a wake-up.
 */
import type { ClaimOutcome, ClaimRuns } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { payloadOf } from '../../database/payload-columns.js';
import { defineStatement } from '../../database/statement.js';
import type { WorkerStatus } from '../../model.js';
import { type MemoPageLimits, readMemos } from '../../reads/read-memo.js';
import type { RunRow } from '../../reads/run-row.js';

const CLAIM_RUNS = defineStatement(
  'claim_runs',
  `with slot as materialized (
    select s.ord, w.worker_id, w.status, w.lease_ms, row_number() over (partition by s.worker_id order by s.ord) as nth
    from unnest($4::uuid[]) with ordinality as s(worker_id, ord)
    left join perdure.workers w on w.worker_id = s.worker_id and w.namespace = $1 and w.task_queue = $2
  ),
  apart as materialized (
    select s.ord, row_number() over (order by s.ord) as place
    from slot s
    -- LATERAL with LIMIT, so that it is looked up by key: an anti-join was planned as a scan of all leased runs. In the order
    -- of workflow_runs_suspects, or a plan made while the table is empty takes another index and reads all leased runs.
    left join lateral (
      select x.run_id from perdure.workflow_runs x
      where x.leased_by = s.worker_id and x.status = 'RUNNING' and x.suspect
      order by x.leased_by, x.run_id limit 1
    ) held on true
    where s.status = 'ONLINE' and s.nth = 1 and held.run_id is null
  ),
  suspect as materialized (
    select r.run_id
    from perdure.workflow_runs r
    where r.namespace = $1 and r.task_queue = $2 and r.status = 'PENDING' and r.suspect and r.workflow_type = any($3::text[])
      and r.available_at <= perdure.clock()
    order by r.priority desc, r.available_at
    limit (select count(*) from apart)
    for no key update skip locked
  ),
  suspect_given as materialized (
    select a.ord, n.run_id from (select run_id, row_number() over () as place from suspect) n join apart a using (place)
  ),
  free as materialized (
    select ord, row_number() over (order by ord) as place from slot
    where status = 'ONLINE' and not exists (select 1 from suspect_given g where g.ord = slot.ord)
  ),
  picked as materialized (
    select r.run_id
    from perdure.workflow_runs r
    where r.namespace = $1 and r.task_queue = $2 and r.status = 'PENDING' and not r.suspect
      and r.workflow_type = any($3::text[]) and r.available_at <= perdure.clock()
    order by r.priority desc, r.available_at
    limit (select count(*) from free)
    for no key update skip locked
  ),
  given as (
    select ord, run_id from suspect_given
    union all
    select f.ord, n.run_id from (select run_id, row_number() over () as place from picked) n join free f using (place)
  ),
  claimed as (
    update perdure.workflow_runs r
    set status = 'RUNNING', lease_token = r.lease_token + 1, leased_by = s.worker_id,
      lease_expires_at = perdure.clock() + s.lease_ms * interval '1 ms', available_at = null,
      started_at = coalesce(r.started_at, perdure.clock()),
      execution_deadline_at = case when r.execution_timeout_ms > 0
        then coalesce(r.execution_deadline_at, perdure.clock() + r.execution_timeout_ms * interval '1 ms') end,
      updated_at = perdure.clock()
    from given g
    join slot s using (ord)
    where r.run_id = g.run_id
    returning s.ord as slot_ord, s.lease_ms, r.run_id, r.workflow_id, r.workflow_type, r.build, r.lease_token, r.attempt,
      r.retries, r.lost_leases, r.cancel_requested_at, r.cancel_lease_token, r.cancel_event_seq, r.created_at, r.started_at, r.run_deadline_at, r.execution_deadline_at, r.has_arrivals,
      r.input,
      r.input_encoding
  )
  select s.ord::int as ord, s.status as worker_status, perdure.clock() as now, c.*
  from slot s
  left join claimed c on c.slot_ord = s.ord
  order by s.ord`,
);

type Row = Pick<
  RunRow,
  | 'run_id'
  | 'workflow_id'
  | 'workflow_type'
  | 'build'
  | 'lease_token'
  | 'attempt'
  | 'retries'
  | 'lost_leases'
  | 'cancel_requested_at'
  | 'created_at'
  | 'started_at'
  | 'run_deadline_at'
  | 'execution_deadline_at'
  | 'input'
  | 'input_encoding'
> & {
  readonly ord: number;
  readonly worker_status: WorkerStatus | null;
  readonly now: Date;
  readonly lease_ms: number;
  readonly has_arrivals: boolean;
  readonly cancel_lease_token: number | null;
  readonly cancel_event_seq: number | null;
};

/**
 * @param claim slots that may be served together
 * @param limits of the first page of each memo
 * @returns one outcome per slot, in their order
 */
export async function claimRuns(db: Database, claim: ClaimRuns, limits: MemoPageLimits): Promise<ClaimOutcome[]> {
  if (claim.slots.length === 0) return [];
  const rows = await db.query<Row>(CLAIM_RUNS, [
    claim.namespace,
    claim.taskQueue,
    textArray(claim.workflowTypes),
    plainArray(claim.slots, (slot) => slot.workerId),
  ]);
  // The first lease of a run has no memo to read.
  const advanced = rows.filter((row) => row.run_id !== null && row.lease_token > 1).map((row) => row.run_id);
  const memos = await readMemos(db, advanced, limits);
  return rows.map((row) => {
    if (row.run_id !== null) {
      const page = memos.get(row.run_id);
      return {
        kind: 'claimed',
        claim: {
          run: {
            runId: row.run_id,
            namespace: claim.namespace,
            workflowId: row.workflow_id,
            workflowType: row.workflow_type,
            build: row.build,
            leaseToken: row.lease_token,
            attempt: row.attempt,
            retries: row.retries,
            lostLeases: row.lost_leases,
            cancelObserved:
              row.cancel_lease_token === null || row.cancel_event_seq === null
                ? null
                : { leaseToken: row.cancel_lease_token, eventSeq: row.cancel_event_seq },
            cancelRequestedAt: row.cancel_requested_at,
            createdAt: row.created_at,
            startedAt: row.started_at,
            runDeadlineAt: row.run_deadline_at,
            executionDeadlineAt: row.execution_deadline_at,
            input: payloadOf(row.input, row.input_encoding),
          },
          leaseMs: row.lease_ms,
          now: row.now,
          hasArrivals: row.has_arrivals,
          memo: page?.memo ?? [],
          nextMemoCursor: page?.next ?? null,
        },
      };
    }
    if (row.worker_status === 'ONLINE') return { kind: 'empty' };
    return { kind: row.worker_status === 'DRAINING' ? 'worker_draining' : 'worker_not_registered' };
  });
}
