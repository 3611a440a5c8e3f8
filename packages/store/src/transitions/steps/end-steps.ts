/**
 * Ends steps by hand: a person gives a step that is stuck its result or its error, or skips it. The outcome arrives (decision 0020): a suspended
 * run wakes in the same statement, the worker of another one takes it, and a run that has ended keeps it for its retry. The SQL is the function
 * `perdure.end_step`.
 *
 * Races closed: the step's own end, a timeout, a cancel, a reclaim, a retry and the end of the run lock the same run. Whatever comes second
 * finds the step ended: the worker's late completion is refused as `ended_by_hand`, and a step whose outcome is recorded is not ended again.
 */
import type { RunAction, WrongRunState } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { byteaArray, jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { Failure, Payload, RunStatus, StepStatus } from '../../model.js';
import { type ArrivalEffect, type ArrivalRow, arrivalEffect } from '../parts/arrival-effect.js';
import { inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

/** A person gives a step its outcome. */
export interface EndStep extends RunAction {
  readonly stepId: string;
  readonly outcome:
    | { readonly kind: 'COMPLETED'; readonly output: Payload | null }
    | { readonly kind: 'FAILED'; readonly failure: Failure }
    | { readonly kind: 'SKIPPED' };
}
export type EndStepOutcome =
  | { readonly kind: 'run_not_found' | 'step_not_found' }
  /** The run has a result, was continued, or was compensated: nothing would use the outcome. */
  | WrongRunState
  /** Its outcome is recorded, or has arrived. */
  | { readonly kind: 'step_ended'; readonly status: StepStatus }
  /** A retry of the run has taken it back, or would. */
  | { readonly kind: 'taken_back' }
  /** A step that receives updates. */
  | { readonly kind: 'wrong_kind' }
  /** A timer with a result. */
  | { readonly kind: 'no_result' }
  /** `effect`: on its run. `closesChildren`: it no longer waits for the child that it has started. */
  | {
      readonly kind: 'ended';
      readonly attemptNumber: number;
      readonly effect: ArrivalEffect;
      readonly closesChildren: boolean;
    }
  /** By an earlier call with the same request id. */
  | { readonly kind: 'already_ended'; readonly attemptNumber: number };

const END_STEPS = defineStatement(
  'end_steps',
  // Sorted before the function is called for each row, so that the runs are locked in the order of their ids.
  `select e.*, c.ord::int as ord
  from (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::jsonb[], $8::text[], $9::text[], $10::text[])
      with ordinality as t(run_id, namespace, step_id, status, output, output_encoding, failure, actor, reason, request_id, ord)
    order by run_id, ord
    offset 0
  ) c
  cross join lateral perdure.end_step(c.run_id, c.namespace, c.step_id, c.status, c.output, c.output_encoding, c.failure, c.actor, c.reason,
    c.request_id) e
  order by c.ord`,
);

interface Row extends VerdictRow, ArrivalRow {
  readonly run_status: RunStatus;
  readonly step_status: StepStatus;
  readonly attempt_number: number;
  readonly closes_children: boolean;
}

/** @returns one outcome per command, in their order */
export function endSteps(db: Database, commands: readonly EndStep[]): Promise<EndStepOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const rows = await db.query<Row>(END_STEPS, [
        plainArray(round, (command) => command.runId),
        textArray(round, (command) => command.namespace),
        textArray(round, (command) => command.stepId),
        plainArray(round, ({ outcome }) => outcome.kind),
        byteaArray(round, ({ outcome }) => (outcome.kind === 'COMPLETED' ? outcome.output?.data : null)),
        textArray(round, ({ outcome }) => (outcome.kind === 'COMPLETED' ? outcome.output?.encoding : null)),
        jsonArray(round, ({ outcome }) => (outcome.kind === 'FAILED' ? outcome.failure : null)),
        textArray(round, (command) => command.actor),
        textArray(round, (command) => command.reason),
        textArray(round, (command) => command.requestId),
      ]);
      return rows.map((row, index) => outcomeOf(round[index] as EndStep, row));
    },
  );
}

function outcomeOf({ namespace }: EndStep, row: Row): EndStepOutcome {
  switch (row.verdict) {
    case 'run_not_found':
    case 'step_not_found':
    case 'taken_back':
    case 'wrong_kind':
    case 'no_result':
      return { kind: row.verdict };
    case 'wrong_state':
      return { kind: 'wrong_state', status: row.run_status };
    case 'step_ended':
      return { kind: 'step_ended', status: row.step_status };
    case 'already_ended':
      return { kind: 'already_ended', attemptNumber: row.attempt_number };
    case 'ended':
      return {
        kind: 'ended',
        attemptNumber: row.attempt_number,
        effect: arrivalEffect(namespace, row),
        closesChildren: row.closes_children,
      };
    default:
      return unknownVerdict('end_steps', row.verdict);
  }
}
