/**
 * Records the output of open attempts, or that due timers have fired.
 *
 * An attempt completes under the lease under which it began; a timer under any later lease of its run, and never before
 * `fires_at` by the database's clock. A repeat under the same lease answers with the recorded time. A cancel does not
 * refuse a completion, because the body was executed and its result is kept; but the answer reports the cancel.
 *
 * Races closed: a replaced lease (fence); the reaper closing the attempt at its deadline, and a person who ends the step (the update repeats
 * the status).
 */
import type { CompleteStep, CompleteStepOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { namedAttempt } from '../parts/recorded.js';

const COMPLETE_STEPS = defineStatement(
  'complete_steps',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::bytea[], $7::text[], $8::int[])
      with ordinality as t(run_id, namespace, lease_token, step_id, attempt_number, output, output_encoding, event_seq, ord)
  ),
  judged as (
    select c.*, l.cancel_requested_at is not null as cancel_requested, s.status as recorded_status, s.finished_at as recorded_finished_at,
      greatest(0, extract(epoch from s.fires_at - perdure.clock()) * 1000)::float8 as remaining_ms,
      coalesce(${FENCE_VERDICT}, case
        when s.action_seq is not null and not s.is_cut then 'ended_by_hand'
        when s.run_id is null then 'step_not_found'
        when s.status = 'COMPLETED' and s.lease_token = c.lease_token then 'already_completed'
        when s.status <> 'RUNNING' or s.awaits is not null or (s.lease_token <> c.lease_token and s.kind <> 'SLEEP') then 'wrong_attempt'
        when s.fires_at > perdure.clock() then 'not_due'
        else 'complete'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    ${namedAttempt('s')}
  ),
  completed as (
    update perdure.step_runs s
    set status = 'COMPLETED', output = j.output, output_encoding = j.output_encoding, event_seq = j.event_seq,
      lease_token = j.lease_token, finished_at = perdure.clock(), deadline_at = null
    from judged j
    where j.verdict = 'complete' and s.run_id = j.run_id and s.step_id = j.step_id
      and s.attempt_number = j.attempt_number and s.status = 'RUNNING'
    returning s.run_id, s.step_id, s.finished_at
  )
  select j.ord::int as ord,
    case when j.verdict = 'complete' then case when d.run_id is null then 'raced' else 'completed' end else j.verdict end as verdict,
    coalesce(d.finished_at, j.recorded_finished_at) as finished_at, j.cancel_requested, j.remaining_ms,
    j.attempt_number, coalesce(j.recorded_status, 'none') as recorded_status
  from judged j
  left join completed d on d.run_id = j.run_id and d.step_id = j.step_id
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly finished_at: Date;
  readonly cancel_requested: boolean;
  readonly remaining_ms: number;
  readonly attempt_number: number;
  readonly recorded_status: string;
}

/** @returns one outcome per command, in their order */
export function completeSteps(db: Database, commands: readonly CompleteStep[]): Promise<CompleteStepOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(COMPLETE_STEPS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.attemptNumber),
        byteaArray(round, (command) => command.output?.data ?? null),
        textArray(round, (command) => command.output?.encoding ?? null),
        plainArray(round, (command) => command.eventSeq),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): CompleteStepOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
      return 'raced';
    case 'completed':
    case 'already_completed':
      return { kind: row.verdict, finishedAt: row.finished_at, cancelRequested: row.cancel_requested };
    case 'not_due':
      return { kind: 'not_due', remainingMs: row.remaining_ms };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: row.attempt_number, latestStatus: row.recorded_status };
    case 'step_not_found':
    case 'ended_by_hand':
      return { kind: row.verdict };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('complete_steps', row.verdict);
  }
}
