/**
 * Records attempts that begin and complete at once: one row, written once, for a body that has ended before its beginning
 * was sent. What {@link beginSteps} would refuse is refused here too, a cancel or a pause that was acknowledged before included.
 *
 * A crash before the commit leaves nothing: the body is executed again, as after a crash between body and completion.
 *
 * The fast path is a batch of first attempts without conflicts. It is one plain INSERT, which answers with the number of rows it
 * wrote: it looks nothing up for each command and returns nothing for each command. Only when it wrote fewer rows than there are
 * commands, every command of the batch is judged; those that were written are then found as already recorded.
 *
 * Races closed: a replaced lease (fence); the same attempt recorded twice at once (unique keys; the loser is judged again).
 */
import type { RecordStep, RecordStepOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { StepKind } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';
import { IS_MISMATCH, latestAttempt, MAY_COME_NEXT, replaceLatest } from '../parts/recorded.js';

/** A step without an attempt has no row, so the primary key (which allows one latest attempt) accepts it. */
const RECORD_FIRST_ATTEMPTS = defineStatement(
  'record_first_attempts',
  `with ${LOCKED_RUNS},
  recorded as (
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
      lease_token, worker_id, started_at, finished_at, output, output_encoding, event_seq)
    select c.run_id, c.step_id, 1, c.seq, c.kind, 'COMPLETED', true, c.counted_attempt, c.max_counted_attempts,
      c.lease_token, l.leased_by, perdure.clock(), perdure.clock(), c.output, c.output_encoding, c.event_seq
    from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::int[], $8::int[],
      $9::bytea[], $10::text[], $11::int[])
      as c(run_id, namespace, lease_token, step_id, seq, kind, counted_attempt, max_counted_attempts, output, output_encoding, event_seq)
    join locked l on l.run_id = c.run_id
    where ${FENCE_VERDICT} is null and l.cancel_requested_at is null and l.paused_at is null
    on conflict do nothing
    returning 1
  )
  select count(*)::int as written, perdure.clock() as finished_at from recorded`,
);

const RECORD_STEPS = defineStatement(
  'record_steps',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::int[], $8::int[],
      $9::int[], $10::boolean[], $11::bytea[], $12::text[], $13::int[])
      with ordinality as t(run_id, namespace, lease_token, step_id, seq, kind, attempt_number, counted_attempt,
        max_counted_attempts, uncancellable, output, output_encoding, event_seq, ord)
  ),
  judged as (
    select c.*, l.leased_by, l.cancel_requested_at is not null as cancel_requested,
      p.attempt_number as previous, p.status as previous_status, p.kind as recorded_kind,
      p.seq as recorded_seq, p.finished_at as recorded_finished_at,
      coalesce(${FENCE_VERDICT}, case
        when ${IS_MISMATCH} then 'step_mismatch'
        when p.action_seq is not null and not p.is_cut and p.next_retry_at is null then 'ended_by_hand'
        when p.attempt_number = c.attempt_number and p.lease_token = c.lease_token and p.status = 'COMPLETED'
          then 'already_recorded'
        when l.paused_at is not null then 'paused'
        when l.cancel_requested_at is not null and not c.uncancellable then 'cancel_requested'
        when ${MAY_COME_NEXT} then 'record'
        else 'wrong_attempt'
      end) as verdict
    from command c
    left join locked l on l.run_id = c.run_id
    ${latestAttempt('p')}
  ),
  ${replaceLatest('record')},
  recorded as (
    insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, is_latest, counted_attempt, max_counted_attempts,
      lease_token, worker_id, started_at, finished_at, output, output_encoding, event_seq)
    select j.run_id, j.step_id, j.attempt_number, j.seq, j.kind, 'COMPLETED', true, j.counted_attempt, j.max_counted_attempts,
      j.lease_token, j.leased_by, perdure.clock(), perdure.clock(), j.output, j.output_encoding, j.event_seq
    from judged j
    -- Reading the count makes the insert wait for the update: both touch the same unique index.
    where j.verdict = 'record' and (select count(*) from replaced) >= 0
    on conflict do nothing
    returning run_id, step_id, finished_at
  )
  select j.ord::int as ord,
    case when j.verdict = 'record' then case when r.run_id is null then 'raced' else 'recorded' end else j.verdict end as verdict,
    coalesce(r.finished_at, j.recorded_finished_at) as finished_at, j.cancel_requested,
    j.recorded_kind, j.recorded_seq, coalesce(j.previous, 0) as latest_attempt, coalesce(j.previous_status, 'none') as latest_status
  from judged j
  left join recorded r on r.run_id = j.run_id and r.step_id = j.step_id
  order by j.ord`,
);

interface Row extends VerdictRow {
  readonly finished_at: Date;
  readonly cancel_requested: boolean;
  readonly recorded_kind: StepKind;
  readonly recorded_seq: number;
  readonly latest_attempt: number;
  readonly latest_status: string;
}

/** @returns one outcome per command, in their order */
export async function recordSteps(db: Database, commands: readonly RecordStep[]): Promise<RecordStepOutcome[]> {
  if (commands.every((command) => command.attemptNumber === 1)) {
    const finishedAt = await recordFirstAttempts(db, commands);
    if (finishedAt !== undefined) {
      const outcome: RecordStepOutcome = { kind: 'recorded', finishedAt, cancelRequested: false };
      return commands.map(() => outcome);
    }
  }
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(RECORD_STEPS, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.seq),
        plainArray(round, (command) => command.stepKind),
        plainArray(round, (command) => command.attemptNumber),
        plainArray(round, (command) => command.countedAttempt),
        plainArray(round, (command) => command.maxCountedAttempts),
        plainArray(round, (command) => command.uncancellable),
        byteaArray(round, (command) => command.output?.data),
        textArray(round, (command) => command.output?.encoding),
        plainArray(round, (command) => command.eventSeq),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

/** @returns the time of all of them; undefined when not all were written; some may have been */
async function recordFirstAttempts(db: Database, commands: readonly RecordStep[]): Promise<Date | undefined> {
  const [row] = await db.query<{ written: number; finished_at: Date }>(RECORD_FIRST_ATTEMPTS, [
    ...fenceParameters(commands),
    textArray(commands, (command) => command.stepId),
    plainArray(commands, (command) => command.seq),
    plainArray(commands, (command) => command.stepKind),
    plainArray(commands, (command) => command.countedAttempt),
    plainArray(commands, (command) => command.maxCountedAttempts),
    byteaArray(commands, (command) => command.output?.data),
    textArray(commands, (command) => command.output?.encoding),
    plainArray(commands, (command) => command.eventSeq),
  ]);
  return row?.written === commands.length ? row.finished_at : undefined;
}

function outcomeOf(row: Row): RecordStepOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
      return 'raced';
    case 'recorded':
    case 'already_recorded':
      return { kind: row.verdict, finishedAt: row.finished_at, cancelRequested: row.cancel_requested };
    case 'cancel_requested':
    case 'paused':
    case 'ended_by_hand':
      return { kind: row.verdict };
    case 'step_mismatch':
      return { kind: 'step_mismatch', recordedKind: row.recorded_kind, recordedSeq: row.recorded_seq };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: row.latest_attempt, latestStatus: row.latest_status };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('record_steps', row.verdict);
  }
}
