/**
 * Records that attempts begin.
 *
 * An attempt n may begin when it is the step's first, or when attempt n-1 FAILED and is retried, or when attempt n-1 was
 * left open by an earlier lease (its worker was lost and the reaper has not closed it): that one is closed here as WORKER_LOST, so at
 * most one attempt is ever open. A repeat of a begin that was recorded under the same lease is answered with the recorded time.
 *
 * Races closed: a replaced lease (fence); a cancel or a pause that was acknowledged before (read from the locked run); the same
 * attempt begun twice at once (unique keys; the loser is judged again).
 */
import type { BeginStep, BeginStepOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { StepKind } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { IS_MISMATCH, latestAttempt, MAY_COME_NEXT, replaceLatest } from '../parts/recorded.js';

const BEGIN_STEPS = defineStatement(
  'begin_steps',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::int[], $8::int[],
      $9::int[], $10::bigint[], $11::bytea[], $12::text[], $13::boolean[])
      with ordinality as t(run_id, namespace, lease_token, step_id, seq, kind, attempt_number, counted_attempt,
        max_counted_attempts, timeout_ms, input, input_encoding, uncancellable, ord)
  ),
  judged as (
    select c.*, l.leased_by, p.attempt_number as previous, p.status as previous_status, p.kind as recorded_kind,
      p.seq as recorded_seq, p.started_at as recorded_started_at,
      coalesce(${FENCE_VERDICT}, case
        when ${IS_MISMATCH} then 'step_mismatch'
        when p.action_seq is not null and not p.is_cut and p.next_retry_at is null then 'ended_by_hand'
        when p.attempt_number = c.attempt_number and p.lease_token = c.lease_token then 'already_begun'
        when l.paused_at is not null then 'paused'
        when l.cancel_requested_at is not null and not c.uncancellable then 'cancel_requested'
        when ${MAY_COME_NEXT} then 'begin'
        else 'wrong_attempt'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    ${latestAttempt('p')}
  ),
  ${replaceLatest('begin')},
  begun as (
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
      lease_token, worker_id, started_at, deadline_at, input, input_encoding)
    select j.run_id, j.step_id, j.attempt_number, j.seq, j.kind, 'RUNNING', true, j.counted_attempt, j.max_counted_attempts,
      j.lease_token, j.leased_by, perdure.clock(),
      case when j.timeout_ms > 0 then perdure.clock() + j.timeout_ms * interval '1 ms' end, j.input, j.input_encoding
    from judged j
    -- Reading the count makes the insert wait for the update: both touch the same unique index.
    where j.verdict = 'begin' and (select count(*) from replaced) >= 0
    on conflict do nothing
    returning run_id, step_id, started_at
  )
  select j.ord::int as ord,
    case when j.verdict = 'begin' then case when b.run_id is null then 'raced' else 'begun' end else j.verdict end as verdict,
    coalesce(b.started_at, j.recorded_started_at) as started_at,
    j.recorded_kind, j.recorded_seq, coalesce(j.previous, 0) as latest_attempt, coalesce(j.previous_status, 'none') as latest_status
  from judged j
  left join begun b on b.run_id = j.run_id and b.step_id = j.step_id
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly started_at: Date;
  readonly recorded_kind: StepKind;
  readonly recorded_seq: number;
  readonly latest_attempt: number;
  readonly latest_status: string;
}

/** @returns one outcome per command, in their order */
export function beginSteps(db: Database, commands: readonly BeginStep[]): Promise<BeginStepOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(BEGIN_STEPS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.seq),
        textArray(round, (command) => command.stepKind),
        plainArray(round, (command) => command.attemptNumber),
        plainArray(round, (command) => command.countedAttempt),
        plainArray(round, (command) => command.maxCountedAttempts),
        plainArray(round, (command) => command.timeoutMs),
        byteaArray(round, (command) => command.input?.data ?? null),
        textArray(round, (command) => command.input?.encoding ?? null),
        plainArray(round, (command) => command.uncancellable),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): BeginStepOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
      return 'raced';
    case 'begun':
    case 'already_begun':
      return { kind: row.verdict, startedAt: row.started_at };
    case 'cancel_requested':
    case 'paused':
    case 'ended_by_hand':
      return { kind: row.verdict };
    case 'step_mismatch':
      return { kind: 'step_mismatch', recordedKind: row.recorded_kind, recordedSeq: row.recorded_seq };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: row.latest_attempt, latestStatus: row.latest_status };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('begin_steps', row.verdict);
  }
}
