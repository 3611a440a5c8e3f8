/**
 * Gives runs back until one of their waits is satisfied.
 *
 * No lost wake-up: the statement that suspends also reads whether a wait is already satisfied. If one is, or an outcome has arrived
 * that was not taken, or a cancel is requested that the code has not learned of, nothing changes, the lease is kept, and the answer says
 * what is ready. A later cancel, timer or arrival finds the run suspended and wakes it, because all of them lock the run first.
 *
 * A run that waits for something from outside is WAITING, with the time of its first timer or timeout, if any. Timers and
 * timeouts are kept in `waits`, so that the wake-up finds them by key without reading the history. A repeat under the same lease
 * is answered like the first call until the next claim.
 *
 * One that waits for several children says for how many: their ends share wake-ups then, see `perdure.tell_parents`.
 */
import type { Keeper, SuspendRun, SuspendRunOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { latestAttempt } from '../parts/recorded.js';

const SUSPEND_RUNS = defineStatement(
  'suspend_runs',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $7::int[], $8::boolean[], $9::int[])
      with ordinality as t(run_id, namespace, lease_token, arrivals_awaited, is_kept, children_awaited, ord)
  ),
  wait as (
    select w.ord, w.step_id, w.wait_on,
      case
        -- Ended by hand: has_arrivals says so. It is not due, or its body would be executed once more.
        when w.wait_on <> 'ARRIVAL' and s.is_arrived and s.action_seq is not null then 'infinity'
        when w.wait_on = 'TIMER' and s.kind = 'SLEEP' then
          case s.status when 'RUNNING' then s.fires_at when 'COMPLETED' then '-infinity'::timestamptz end
        when w.wait_on = 'RETRY' and s.status = 'FAILED' then s.next_retry_at
        when w.wait_on = 'ARRIVAL' and s.status = 'RUNNING' and s.awaits is not null then coalesce(s.fires_at, 'infinity')
        when w.wait_on = 'ARRIVAL' and s.is_arrived then '-infinity'
      end as due_at
    from unnest($4::bigint[], $5::text[], $6::text[]) as w(ord, step_id, wait_on)
    join command c on c.ord = w.ord
    ${latestAttempt('s', 'w.step_id')}
  ),
  summed as (
    select ord, case when isfinite(min(due_at)) then min(due_at) end as wake_at,
      coalesce(jsonb_agg(step_id) filter (where due_at <= perdure.clock()), '[]') as ready,
      coalesce(jsonb_agg(step_id) filter (where due_at is null), '[]') as unknown,
      jsonb_agg(jsonb_build_object('step', step_id, 'kind', wait_on)) filter (where wait_on <> 'RETRY') as waits
    from wait group by ord
  ),
  -- No more arrivals than steps that wait for one.
  awaited as (
    select c.ord, count(*)::int as steps
    from command c
    cross join lateral (
      select 1 from perdure.step_runs x where x.run_id = c.run_id and x.status = 'RUNNING' and x.awaits is not null
      limit c.arrivals_awaited) a
    group by c.ord
  ),
  judged as (
    select c.*, s.wake_at, coalesce(s.ready, '[]') as ready, coalesce(s.unknown, '[]') as unknown, s.waits, coalesce(a.steps, 0) as steps_awaited,
      l.cancel_requested_at is not null and not l.cancel_observed as cancel_requested, l.has_arrivals,
      case
        when l.namespace = c.namespace and l.lease_token = c.lease_token and l.yield_reason = 'SUSPEND'
          and l.status in ('SLEEPING', 'WAITING', 'PENDING') then 'already_suspended'
        else coalesce(${FENCE_VERDICT}, case
          when s.unknown <> '[]' then 'unknown_wait'
          when s.ready <> '[]' or l.has_arrivals or (l.cancel_requested_at is not null and not l.cancel_observed) then 'not_suspended'
          when s.wake_at is null and coalesce(a.steps, 0) = 0 then 'unknown_wait'
          else 'suspend'
        end)
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    left join summed s on s.ord = c.ord
    left join awaited a on a.ord = c.ord
  ),
  suspended as (
    update perdure.workflow_runs r
    set status = case when j.steps_awaited > 0 then 'WAITING' else 'SLEEPING' end, yield_reason = 'SUSPEND',
      arrivals_awaited = greatest(j.steps_awaited, 1), children_awaited = j.children_awaited, suspended_by = case when j.is_kept then r.leased_by end, wake_at = j.wake_at, waits = j.waits, lost_leases = 0,
      leased_by = null, lease_expires_at = null, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'suspend' and r.run_id = j.run_id
    returning r.run_id, case when r.status = 'WAITING' then r.suspended_by end as kept_by, r.task_queue, r.workflow_type
  )
  select j.ord::int as ord, case when j.verdict = 'suspend' then 'suspended' else j.verdict end as verdict,
    j.wake_at, (extract(epoch from j.wake_at - perdure.clock()) * 1000)::float8 as wake_in_ms,
    coalesce(j.cancel_requested, false) as cancel_requested,
    coalesce(j.has_arrivals, false) as has_arrivals, j.ready, j.unknown, d.kept_by, d.task_queue, d.workflow_type
  from judged j
  left join suspended d on d.run_id = j.run_id and j.verdict = 'suspend'
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly wake_at: Date | null;
  readonly wake_in_ms: number | null;
  readonly cancel_requested: boolean;
  readonly has_arrivals: boolean;
  readonly ready: string[];
  readonly unknown: string[];
  /** The worker that keeps the run in memory. Null also for one that waits for time alone. */
  readonly kept_by: string | null;
  readonly task_queue: string;
  readonly workflow_type: string;
}

/** @returns one outcome per command, in their order */
export function suspendRuns(db: Database, commands: readonly SuspendRun[]): Promise<SuspendRunOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const waits = round.flatMap((command, index) => command.waits.map((wait) => ({ ...wait, ord: index + 1 })));
      const rows = await db.query<Row>(SUSPEND_RUNS, [
        ...fenceParameters(round),
        plainArray(waits, (wait) => wait.ord),
        textArray(waits, (wait) => wait.stepId),
        textArray(waits, (wait) => wait.on),
        plainArray(round, (command) => command.arrivalsAwaited),
        plainArray(round, (command) => command.isKept),
        plainArray(round, ({ childrenAwaited = 1 }) => (childrenAwaited > 1 ? childrenAwaited : null)),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): SuspendRunOutcome {
  switch (row.verdict) {
    case 'suspended':
    case 'already_suspended':
      return { kind: row.verdict, wakeAt: row.wake_at, wakeInMs: row.wake_in_ms, keeper: keeperOf(row) };
    case 'not_suspended':
      return {
        kind: 'not_suspended',
        readyStepIds: row.ready,
        cancelRequested: row.cancel_requested,
        hasArrivals: row.has_arrivals,
      };
    case 'unknown_wait':
      return { kind: 'unknown_wait', stepIds: row.unknown };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('suspend_runs', row.verdict);
  }
}

function keeperOf(row: Row): Keeper | null {
  if (row.kept_by === null) return null;
  return { workerId: row.kept_by, taskQueue: row.task_queue, workflowType: row.workflow_type };
}
