/**
 * Records the error of open attempts, and whether another attempt follows.
 *
 * `next_retry_at` on the row is the whole decision: set, another attempt may begin then; empty, the failure is final and
 * every replay throws it. A repeat under the same lease answers with what was recorded.
 *
 * Races closed: as in complete-steps.
 */
import type { FailStep, FailStepOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { namedAttempt } from '../parts/recorded.js';

const FAIL_STEPS = defineStatement(
  'fail_steps',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::jsonb[], $7::bigint[], $8::int[])
      with ordinality as t(run_id, namespace, lease_token, step_id, attempt_number, failure, retry_after_ms, event_seq, ord)
  ),
  judged as (
    select c.*, l.cancel_requested_at is not null as cancel_requested, s.status as recorded_status,
      s.finished_at as recorded_finished_at, s.next_retry_at as recorded_next_retry_at,
      coalesce(${FENCE_VERDICT}, case
        when s.action_seq is not null and not s.is_cut then 'ended_by_hand'
        when s.run_id is null then 'step_not_found'
        when s.status = 'FAILED' and s.lease_token = c.lease_token then 'already_failed'
        when s.status <> 'RUNNING' or s.awaits is not null or s.lease_token <> c.lease_token then 'wrong_attempt'
        else 'fail'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    ${namedAttempt('s')}
  ),
  failed as (
    update perdure.step_runs s
    set status = 'FAILED', failure = j.failure, event_seq = nullif(j.event_seq, 0), finished_at = perdure.clock(),
      next_retry_at = perdure.clock() + j.retry_after_ms * interval '1 ms', deadline_at = null
    from judged j
    where j.verdict = 'fail' and s.run_id = j.run_id and s.step_id = j.step_id
      and s.attempt_number = j.attempt_number and s.status = 'RUNNING'
    returning s.run_id, s.step_id, s.finished_at, s.next_retry_at
  )
  select j.ord::int as ord,
    case when j.verdict = 'fail' then case when f.run_id is null then 'raced' else 'failed' end else j.verdict end as verdict,
    coalesce(f.finished_at, j.recorded_finished_at) as finished_at,
    case when f.run_id is null then j.recorded_next_retry_at else f.next_retry_at end as next_retry_at,
    j.cancel_requested, j.attempt_number, coalesce(j.recorded_status, 'none') as recorded_status
  from judged j
  left join failed f on f.run_id = j.run_id and f.step_id = j.step_id
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly finished_at: Date;
  readonly next_retry_at: Date | null;
  readonly cancel_requested: boolean;
  readonly attempt_number: number;
  readonly recorded_status: string;
}

/** @returns one outcome per command, in their order */
export function failSteps(db: Database, commands: readonly FailStep[]): Promise<FailStepOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(FAIL_STEPS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.attemptNumber),
        jsonArray(round, (command) => command.failure),
        plainArray(round, (command) => command.retryAfterMs),
        plainArray(round, (command) => command.eventSeq),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): FailStepOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
      return 'raced';
    case 'failed':
    case 'already_failed':
      return {
        kind: row.verdict,
        finishedAt: row.finished_at,
        nextRetryAt: row.next_retry_at,
        cancelRequested: row.cancel_requested,
      };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: row.attempt_number, latestStatus: row.recorded_status };
    case 'step_not_found':
    case 'ended_by_hand':
      return { kind: row.verdict };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('fail_steps', row.verdict);
  }
}
