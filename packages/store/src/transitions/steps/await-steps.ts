/**
 * Begins waits for what comes from outside of the run: a step of an awaited kind is recorded as open, or as ended at once when what it
 * waits for is there already, or when its timeout is 0 (decision 0020). The whole SQL is the function `perdure.await_steps`.
 *
 * Race closed: a signal that is sent at the same time locks the same run, and either finds the open step or is found by it.
 *
 * A repeat is answered with what is recorded: open, or the outcome with the place of the first call. A timeout counts from the first call.
 */
import type { AwaitStep, AwaitStepOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { payloadOf } from '../../database/payload-columns.js';
import { defineStatement, type Statement } from '../../database/statement.js';
import type { Failure, StepKind, StepStatus } from '../../model.js';
import { readReceivedUpdates } from '../../reads/received-updates.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

const AWAIT_STEPS = defineStatement(
  'await_steps',
  `select * from perdure.await_steps($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::int[], $8::text[],
    $9::float8[], $10::int[], $11::boolean[])`,
);

/** The same, with locks that keep a wait for an event and its publication from missing each other; see `0004-events.ts`. */
const AWAIT_EVENT_STEPS = defineStatement(
  'await_event_steps',
  `select * from perdure.await_event_steps($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::int[], $8::text[],
    $9::float8[], $10::int[], $11::boolean[])`,
);

/** Most waits of one statement that takes locks for events: PostgreSQL has room for a limited number of them. */
const MAX_EVENT_WAITS = 50;

interface Row extends VerdictRow {
  readonly attempt_number: number;
  readonly status: StepStatus | 'none';
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
  readonly failure: Failure | null;
  readonly finished_at: Date | null;
  readonly remaining_ms: number | null;
  readonly recorded_kind: StepKind;
  readonly recorded_seq: number;
}

/** @returns one outcome per command, in their order */
export function awaitSteps(db: Database, commands: readonly AwaitStep[]): Promise<AwaitStepOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      if (!round.some(isForEvent)) return awaitRound(db, AWAIT_STEPS, round);
      const outcomes: AwaitStepOutcome[] = [];
      for (let from = 0; from < round.length; from += MAX_EVENT_WAITS) {
        outcomes.push(...(await awaitRound(db, AWAIT_EVENT_STEPS, round.slice(from, from + MAX_EVENT_WAITS))));
      }
      return outcomes;
    },
  );
}

const isForEvent = ({ stepKind }: AwaitStep) => stepKind === 'EVENT';

async function awaitRound(
  db: Database,
  statement: Statement,
  round: readonly AwaitStep[],
): Promise<AwaitStepOutcome[]> {
  const rows = await db.query<Row>(statement, [
    ...fenceParameters(round),
    textArray(round, (command) => command.stepId),
    plainArray(round, (command) => command.seq),
    plainArray(round, (command) => command.stepKind),
    plainArray(round, (command) => command.attemptNumber),
    textArray(round, (command) => command.awaits),
    plainArray(round, (command) => command.timeoutMs),
    plainArray(round, (command) => command.eventSeq),
    plainArray(round, (command) => command.uncancellable),
  ]);
  return withUpdates(db, round, rows.map(outcomeOf));
}

/** Adds what steps of kind UPDATE have received. */
async function withUpdates(
  db: Database,
  commands: readonly AwaitStep[],
  outcomes: AwaitStepOutcome[],
): Promise<AwaitStepOutcome[]> {
  const received = commands.filter(
    ({ stepKind }, index) => stepKind === 'UPDATE' && outcomes[index]?.kind === 'arrived',
  );
  if (received.length === 0) return outcomes;
  const updates = await readReceivedUpdates(db, received);
  return outcomes.map((outcome, index) => {
    const update = updates[received.indexOf(commands[index] as AwaitStep)];
    return outcome.kind === 'arrived' && update !== undefined ? { ...outcome, update } : outcome;
  });
}

function outcomeOf(row: Row): AwaitStepOutcome {
  switch (row.verdict) {
    case 'waiting':
      return { kind: 'waiting', attemptNumber: row.attempt_number, remainingMs: row.remaining_ms };
    case 'arrived':
      return {
        kind: 'arrived',
        attemptNumber: row.attempt_number,
        status: row.status as StepStatus,
        output: payloadOf(row.output, row.output_encoding),
        failure: row.failure,
        finishedAt: row.finished_at ?? new Date(0),
      };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: row.attempt_number, latestStatus: row.status };
    case 'cancel_requested':
    case 'paused':
      return { kind: row.verdict };
    case 'step_mismatch':
      return { kind: 'step_mismatch', recordedKind: row.recorded_kind, recordedSeq: row.recorded_seq };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('await_steps', row.verdict);
  }
}
