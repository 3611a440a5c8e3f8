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
 * What has arrived for a run since it was suspended is taken with the claim: its place is the first one of the new lease. A run that
 * comes back to the worker that suspended it comes without a memo, because that worker has its code in memory, or asks for it.
 *
 * A paused queue or type is not claimed: a pause waits for the statements that lease runs, and later ones see it (`0006-pauses.ts`). While
 * a type is paused, claims of its queue read past its runs.
 *
 * The statement may miss a run that becomes claimable while it runs; the caller claims again on a wake-up.
 */
import type { ClaimOutcome, ClaimRuns } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { WorkerStatus } from '../../model.js';
import { type MemoPageLimits, readMemos } from '../../reads/read-memo.js';
import { withReceivedUpdates } from '../../reads/received-updates.js';
import {
  arrivalOf,
  type ClaimedRow,
  CODE_IN_MEMORY,
  claimedRun,
  MAX_ARRIVAL_BYTES,
  MAX_ARRIVALS,
} from './claimed-run.js';

const CLAIM_RUNS = defineStatement(
  'claim_runs',
  `with open as materialized (
    -- Null: nothing may be claimed.
    select array_agg(t.name) as types from unnest($3::text[]) as t(name)
    where not exists (
      select 1 from perdure.dispatch_pauses p
      where p.namespace = $1 and p.name = case p.kind when 'TASK_QUEUE' then $2 else t.name end
      for key share
    )
  ),
  slot as materialized (
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
    select r.run_id, r.suspended_by, r.has_arrivals
    from perdure.workflow_runs r
    where r.namespace = $1 and r.task_queue = $2 and r.status = 'PENDING' and r.paused_at is null and r.suspect
      and r.workflow_type = any((select types from open)::text[]) and r.available_at <= perdure.clock()
    order by r.priority desc, r.available_at
    limit (select case when types is not null then (select count(*) from apart) else 0 end from open)
    for no key update skip locked
  ),
  suspect_given as materialized (
    select a.ord, n.run_id, n.suspended_by, n.has_arrivals
    from (select run_id, suspended_by, has_arrivals, row_number() over () as place from suspect) n join apart a using (place)
  ),
  free as materialized (
    select ord, row_number() over (order by ord) as place from slot
    where status = 'ONLINE' and not exists (select 1 from suspect_given g where g.ord = slot.ord)
  ),
  picked as materialized (
    select r.run_id, r.suspended_by, r.has_arrivals
    from perdure.workflow_runs r
    where r.namespace = $1 and r.task_queue = $2 and r.status = 'PENDING' and r.paused_at is null and not r.suspect
      and r.workflow_type = any((select types from open)::text[]) and r.available_at <= perdure.clock()
    order by r.priority desc, r.available_at
    limit (select case when types is not null then (select count(*) from free) else 0 end from open)
    for no key update skip locked
  ),
  given as (
    select ord, run_id, suspended_by, has_arrivals from suspect_given
    union all
    select f.ord, n.run_id, n.suspended_by, n.has_arrivals
    from (select run_id, suspended_by, has_arrivals, row_number() over () as place from picked) n join free f using (place)
  ),
  claimed as (
    update perdure.workflow_runs r
    set status = 'RUNNING', lease_token = r.lease_token + 1, leased_by = s.worker_id,
      lease_expires_at = perdure.clock() + s.lease_ms * interval '1 ms', available_at = null, suspended_by = null,
      started_at = coalesce(r.started_at, perdure.clock()), has_arrivals = false,
      last_take = case when g.has_arrivals then (r.lease_token + 1)::bigint * 4294967296 + 1 else r.last_take end,
      -- Before the first claim it is the deadline of the start timeout.
      execution_deadline_at = case when r.execution_timeout_ms > 0 and r.compensation is distinct from 'COMPENSATING'
        then coalesce(case when r.started_at is not null then r.execution_deadline_at end,
          perdure.clock() + r.execution_timeout_ms * interval '1 ms') end,
      updated_at = perdure.clock()
    from given g
    join slot s using (ord)
    where r.run_id = g.run_id
    returning s.ord as slot_ord, s.lease_ms, r.run_id, r.workflow_id, r.workflow_type, r.build, r.lease_token, r.attempt,
      r.retries, r.lost_leases, r.cancel_requested_at, r.cancel_lease_token, r.cancel_event_seq, r.compensation, r.created_at, r.started_at, r.run_deadline_at, r.execution_deadline_at, g.has_arrivals,
      coalesce(g.suspended_by = s.worker_id, false) as is_back, r.input,
      r.input_encoding
  )
  select s.ord::int as ord, s.status as worker_status, perdure.clock() as now, c.*, a.nth, a.arrived, a.step_id, a.seq, a.kind,
    a.attempt_number, a.status, a.output, a.output_encoding, a.failure, a.finished_at, a.fires_at
  from slot s
  left join claimed c on c.slot_ord = s.ord
  left join lateral perdure.take_claimed(case when c.has_arrivals then c.run_id end, c.lease_token, $5::int, $6::float8) a on true
  order by s.ord, a.nth`,
);

interface Row extends ClaimedRow {
  readonly worker_status: WorkerStatus | null;
  /** The worker suspended the run: it may have its code in memory. */
  readonly is_back: boolean;
}

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
    MAX_ARRIVALS,
    MAX_ARRIVAL_BYTES,
  ]);
  const slots = claim.slots.map((): Row[] => []);
  for (const row of rows) slots[row.ord - 1]?.push(row);
  const firsts = slots.map(([first]) => first as Row);
  // The first lease of a run has no memo to read, and a worker that suspended the run has it; else it asks for the pages.
  const advanced = firsts.filter((row) => row.run_id !== null && row.lease_token > 1 && !row.is_back);
  const memos = await readMemos(
    db,
    advanced.map((row) => row.run_id),
    limits,
  );
  // A worker that replays finds them in the memo.
  const given = firsts.map((row, index) =>
    row.run_id !== null && row.is_back && row.nth !== null ? (slots[index] as Row[]).map(arrivalOf) : [],
  );
  const arrivals = await withReceivedUpdates(db, given);
  return slots.map((slot, index) => {
    const [row] = slot as [Row];
    if (row.run_id !== null) {
      const page = memos.get(row.run_id);
      const code = row.is_back ? CODE_IN_MEMORY : { memo: page?.memo ?? [], nextMemoCursor: page?.next ?? null };
      return { kind: 'claimed', claim: claimedRun(claim.namespace, slot, arrivals[index] ?? [], code) };
    }
    if (row.worker_status === 'ONLINE') return { kind: 'empty' };
    return { kind: row.worker_status === 'DRAINING' ? 'worker_draining' : 'worker_not_registered' };
  });
}
