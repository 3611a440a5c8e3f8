/**
 * Settles promises of runs, once each: the step that waits for the promise ends with the value or the error, which wakes its run when that
 * is suspended. The whole SQL is the function `perdure.settle_promises`.
 *
 * Race closed: a timeout, a cancel or another settlement locks the same run and ends the same open step; the second finds it ended.
 * A promise whose wait a run-level retry has taken back keeps the outcome for the wait that begins again.
 */

import type { Database } from '../../database/database.js';
import { byteaArray, jsonArray, plainArray, textArray } from '../../database/literals.js';
import { defineStatement } from '../../database/statement.js';
import type { Failure, Payload, StepStatus } from '../../model.js';
import { type ArrivalRow, arrivalEffect, type ReachedRun } from '../parts/arrival-effect.js';
import { inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

export interface SettlePromise {
  /** Null: the promise of any namespace, for callers who prove by the id that they may settle it. */
  readonly namespace: string | null;
  readonly promiseId: string;
  readonly outcome:
    | { readonly kind: 'resolved'; readonly value: Payload | null }
    | { readonly kind: 'rejected'; readonly failure: Failure };
}
export type SettlePromiseOutcome =
  | { readonly kind: 'promise_not_found' }
  | { readonly kind: 'settled'; readonly reached: ReachedRun }
  /** COMPLETED: it was resolved before; FAILED: rejected; TIMED_OUT, CANCELLED: nobody waits for it. */
  | { readonly kind: 'already_settled'; readonly status: StepStatus };

const SETTLE_PROMISES = defineStatement(
  'settle_promises',
  'select * from perdure.settle_promises($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::jsonb[])',
);

interface Row extends VerdictRow, ArrivalRow {
  readonly status: StepStatus;
  readonly run_id: string;
  readonly namespace: string;
}

/** @returns one outcome per command, in their order */
export function settlePromises(db: Database, commands: readonly SettlePromise[]): Promise<SettlePromiseOutcome[]> {
  return inRounds(
    commands,
    (command) => command.promiseId,
    async (round) => {
      const rows = await db.query<Row>(SETTLE_PROMISES, [
        textArray(round, (command) => command.promiseId),
        textArray(round, (command) => command.namespace),
        plainArray(round, ({ outcome }) => (outcome.kind === 'resolved' ? 'COMPLETED' : 'FAILED')),
        byteaArray(round, ({ outcome }) => (outcome.kind === 'resolved' ? outcome.value?.data : null)),
        textArray(round, ({ outcome }) => (outcome.kind === 'resolved' ? outcome.value?.encoding : null)),
        jsonArray(round, ({ outcome }) => (outcome.kind === 'rejected' ? outcome.failure : null)),
      ]);
      return rows.map(outcomeOf);
    },
  );
}

function outcomeOf(row: Row): SettlePromiseOutcome | 'raced' {
  switch (row.verdict) {
    case 'raced':
    case 'promise_not_found':
      return row.verdict === 'raced' ? 'raced' : { kind: 'promise_not_found' };
    case 'settled':
      return {
        kind: 'settled',
        reached: { namespace: row.namespace, runId: row.run_id, effect: arrivalEffect(row.namespace, row) },
      };
    case 'already_settled':
      return { kind: 'already_settled', status: row.status };
    default:
      return unknownVerdict('settle_promises', row.verdict);
  }
}
