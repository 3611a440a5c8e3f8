/**
 * Ends the present attempt of a run with an error; another attempt follows after a delay.
 *
 * The memo is cut at the failure that caused the error. Steps that the code had begun before it (up to `cut.seq`) keep their
 * outcomes, except that failures delivered from there on are executed again: their `next_retry_at` is set. Steps that it began
 * later, in a catch or finally for example, are taken back: the rows stay as history, and the next attempt may take another way.
 * Without a cut the memo stays as it is. The execution timeout starts again with the next claim. A run that is being cancelled
 * becomes claimable at once. A repeat under the same lease is answered like the first call until the next claim.
 */
import type { RetryRunAttempt, RetryRunAttemptOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { jsonArray, plainArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

const RETRY_RUN_ATTEMPTS = defineStatement(
  'retry_run_attempts',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::jsonb[], $5::bigint[], $6::int[], $7::int[],
      $8::int[])
      with ordinality as t(run_id, namespace, lease_token, failure, retry_after_ms, cut_lease_token, cut_event_seq, cut_seq, ord)
  ),
  judged as (
    select c.*, l.cancel_requested_at is not null as cancel_requested,
      case
        when l.namespace = c.namespace and l.lease_token = c.lease_token and l.yield_reason = 'RUN_RETRY'
          and l.status in ('SLEEPING', 'PENDING') then 'already_retrying'
        else coalesce(${FENCE_VERDICT}, 'retry')
      end as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  -- One update for all rows of the run, because a statement may change a row once. Timers that stay keep running; open attempts are
  -- lost with the attempt of the run.
  steps as (
    update perdure.step_runs s
    set is_cut = t.is_cut,
      status = case when not t.was_open then s.status when t.is_cut then 'CANCELLED' else 'FAILED' end,
      finished_at = coalesce(s.finished_at, perdure.clock()),
      deadline_at = null,
      next_retry_at = case when not t.is_cut and s.is_latest then perdure.clock() end,
      failure = case when t.was_open and not t.is_cut then jsonb_build_object('type', 'WorkerLostError', 'reason', 'WORKER_LOST',
        'message', 'The attempt of the run ended while this attempt of the step was open.') else s.failure end
    from judged j
    cross join lateral (
      select x.step_id, x.attempt_number, coalesce(x.seq > j.cut_seq, false) as is_cut, x.status = 'RUNNING' as was_open
      from perdure.step_runs x
      where x.run_id = j.run_id and not x.is_cut and (
        x.seq > j.cut_seq
        or (x.is_latest and x.status = 'RUNNING' and x.kind <> 'SLEEP')
        or (x.is_latest and x.status = 'FAILED' and x.next_retry_at is null
          and (x.lease_token, x.event_seq) >= (j.cut_lease_token, j.cut_event_seq)))
    ) t
    where j.verdict = 'retry' and s.run_id = j.run_id and s.step_id = t.step_id and s.attempt_number = t.attempt_number
    returning 1
  ),
  retrying as (
    update perdure.workflow_runs r
    set status = case when j.cancel_requested then 'PENDING' else 'SLEEPING' end,
      available_at = case when j.cancel_requested then perdure.clock() end,
      wake_at = case when not j.cancel_requested then perdure.clock() + j.retry_after_ms * interval '1 ms' end,
      yield_reason = 'RUN_RETRY', attempt = r.attempt + 1, retries = r.retries + 1, failure = j.failure, execution_deadline_at = null,
      leased_by = null, lease_expires_at = null, updated_at = perdure.clock()
    from judged j
    where j.verdict = 'retry' and r.run_id = j.run_id
    returning r.run_id
  )
  select ord::int as ord, case when verdict = 'retry' then 'retrying' else verdict end as verdict from judged order by ord`,
);

/** @returns one outcome per command, in their order */
export function retryRunAttempts(
  db: Database,
  commands: readonly RetryRunAttempt[],
): Promise<RetryRunAttemptOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<VerdictRow>(RETRY_RUN_ATTEMPTS, [
        ...fenceParameters(round),
        jsonArray(round, (command) => command.failure),
        plainArray(round, (command) => command.retryAfterMs),
        plainArray(round, (command) => command.cut?.from.leaseToken ?? null),
        plainArray(round, (command) => command.cut?.from.eventSeq ?? null),
        plainArray(round, (command) => command.cut?.seq ?? null),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: VerdictRow): RetryRunAttemptOutcome {
  switch (row.verdict) {
    case 'retrying':
    case 'already_retrying':
      return { kind: row.verdict };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('retry_run_attempts', row.verdict);
  }
}
