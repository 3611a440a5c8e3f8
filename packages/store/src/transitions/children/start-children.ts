/**
 * Starts child runs. The child's run and the CHILD step of its parent, which waits for the child's end, are written in one
 * statement under the parent's lease; the whole SQL is the function `perdure.start_children`.
 *
 * A repeat finds the step and is answered with the child that the first call started. A child whose workflow id is taken is not started:
 * its step ends as FAILED, with its place in the order of results, so that the code gets the same error in every replay.
 *
 * Children with a start timeout or a chain timeout are started in a transaction, which writes these limits too.
 *
 * The child is PENDING, also when a slot waits for it: its worker claims it like any other run.
 */
import type { StartChild, StartChildOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import { payloadOf } from '../../database/payload-columns.js';
import { defineStatement } from '../../database/statement.js';
import type { Failure, StepKind, StepStatus } from '../../model.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { isLimited, limitRuns } from '../runs/limit-runs.js';

const START_CHILDREN = defineStatement(
  'start_children',
  `select * from perdure.start_children($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::int[], $7::int[], $8::boolean[],
    $9::uuid[], $10::text[], $11::text[], $12::text[], $13::int[], $14::text[], $15::text[], $16::text[], $17::bigint[], $18::bigint[],
    $19::bigint[], $20::int[], $21::bytea[], $22::text[])`,
);

interface Row extends VerdictRow {
  readonly attempt_number: number;
  readonly child_id: string | null;
  readonly task_queue: string;
  readonly status: StepStatus | 'none';
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
  readonly failure: Failure | null;
  readonly finished_at: Date | null;
  readonly recorded_kind: StepKind;
  readonly recorded_seq: number;
}

/** @returns one outcome per command, in their order */
export async function startChildren(db: Database, commands: readonly StartChild[]): Promise<StartChildOutcome[]> {
  if (!commands.some(isLimited)) return startPlain(db, commands);
  return db.transaction(async (transaction) => {
    const outcomes = await startPlain(transaction, commands);
    await limitRuns(
      transaction,
      outcomes.flatMap((outcome, index) =>
        outcome.kind === 'started' ? [{ ...(commands[index] as StartChild), runId: outcome.childRunId }] : [],
      ),
    );
    return outcomes;
  });
}

function startPlain(db: Database, commands: readonly StartChild[]): Promise<StartChildOutcome[]> {
  return inRounds(
    commands,
    (command) => `${command.runId}/${command.stepId}`,
    async (round) => {
      const rows = await db.query<Row>(START_CHILDREN, [
        ...fenceParameters(round),
        textArray(round, (command) => command.stepId),
        plainArray(round, (command) => command.seq),
        plainArray(round, (command) => command.attemptNumber),
        plainArray(round, (command) => command.eventSeq),
        plainArray(round, (command) => command.uncancellable),
        plainArray(round, (command) => command.childRunId),
        textArray(round, (command) => command.workflowId),
        textArray(round, (command) => command.workflowType),
        textArray(round, (command) => command.taskQueue),
        plainArray(round, (command) => command.priority),
        textArray(round, (command) => command.build),
        plainArray(round, (command) => command.reusePolicy),
        plainArray(round, (command) => command.parentClose),
        plainArray(round, (command) => command.startDelayMs),
        plainArray(round, (command) => command.runTimeoutMs),
        plainArray(round, (command) => command.executionTimeoutMs),
        plainArray(round, (command) => command.maxLostLeases),
        byteaArray(round, (command) => command.input?.data),
        textArray(round, (command) => command.input?.encoding),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): StartChildOutcome {
  const { attempt_number: attemptNumber, child_id: childRunId } = row;
  switch (row.verdict) {
    case 'started':
    case 'waiting':
      return { kind: row.verdict, attemptNumber, childRunId: childRunId ?? '', taskQueue: row.task_queue };
    case 'arrived':
      return {
        kind: 'arrived',
        attemptNumber,
        childRunId,
        status: row.status as StepStatus,
        output: payloadOf(row.output, row.output_encoding),
        failure: row.failure,
        finishedAt: row.finished_at ?? new Date(0),
      };
    case 'wrong_attempt':
      return { kind: 'wrong_attempt', latestAttempt: attemptNumber, latestStatus: row.status };
    case 'cancel_requested':
    case 'paused':
      return { kind: row.verdict };
    case 'step_mismatch':
      return { kind: 'step_mismatch', recordedKind: row.recorded_kind, recordedSeq: row.recorded_seq };
    default:
      return fenceOutcome(row.verdict) ?? unknownVerdict('start_children', row.verdict);
  }
}
