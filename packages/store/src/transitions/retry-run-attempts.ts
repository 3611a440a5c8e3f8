/**
 * Ends the present attempt of a run with an error and lets another attempt follow after a delay.
 *
 * Completed steps stay memoized. The steps named in `reopenStepIds` - those whose final failure ended the attempt - may be
 * executed again: their `next_retry_at` is set. The execution timeout starts anew with the next claim. A run whose cancel
 * was asked for becomes claimable at once. A repeat under the same lease answers like the first time until the next claim.
 */
import type { RetryRunAttempt, RetryRunAttemptOutcome } from '../commands.js';
import type { Database } from '../database/database.js';
import { jsonArray, plainArray, textArray } from '../database/literals.js';
import { defineStatement } from '../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from './batch.js';
import { LOSE_OPEN_STEPS } from './close-steps.js';
import { FENCE_VERDICT, LOCKED_RUNS } from './fence.js';

const RETRY_RUN_ATTEMPTS = defineStatement(
  'retry_run_attempts',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::jsonb[], $5::bigint[])
      with ordinality as t(run_id, namespace, lease_token, failure, retry_after_ms, ord)
  ),
  reopen as (select * from unnest($6::bigint[], $7::text[]) as t(ord, step_id)),
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
  reopened as (
    update perdure.step_runs s
    set next_retry_at = perdure.clock()
    from judged j join reopen o on o.ord = j.ord
    where j.verdict = 'retry' and s.run_id = j.run_id and s.step_id = o.step_id and s.attempt_key = 0 and s.status = 'FAILED'
    returning 1
  ),
  closing as (
    select run_id, 'The attempt of the run ended while this attempt of the step was open.' as message
    from judged where verdict = 'retry'
  ),
  ${LOSE_OPEN_STEPS},
  retrying as (
    update perdure.workflow_runs r
    set status = case when j.cancel_requested then 'PENDING' else 'SLEEPING' end,
      available_at = case when j.cancel_requested then perdure.clock() end,
      wake_at = case when not j.cancel_requested then perdure.clock() + j.retry_after_ms * interval '1 ms' end,
      yield_reason = 'RUN_RETRY', attempt = r.attempt + 1, retries = r.retries + 1, failure = j.failure, execution_deadline_at = null,
      locked_by = null, locked_until = null, updated_at = perdure.clock()
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
      const reopened = round.flatMap((command, index) =>
        command.reopenStepIds.map((stepId) => ({ ord: index + 1, stepId })),
      );
      const rows = await db.query<VerdictRow>(RETRY_RUN_ATTEMPTS, [
        ...fenceParameters(round),
        jsonArray(round, (command) => command.failure),
        plainArray(round, (command) => command.retryAfterMs),
        plainArray(reopened, (reopen) => reopen.ord),
        textArray(reopened, (reopen) => reopen.stepId),
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
