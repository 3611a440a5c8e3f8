/**
 * Sends signals to runs. Each signal is kept, in the order of sending, and given at once to the first step of the run that waits for
 * its name, which wakes the run when it is suspended. The whole SQL is the function `perdure.send_signals`.
 *
 * A repeat of a request id sends nothing; it is answered with the number of the first one. An ended run takes no signal.
 */
import type { Database } from '../../database/database.js';
import { byteaArray, plainArray, textArray } from '../../database/literals.js';
import type { Payload, RunStatus } from '../../model.js';
import { type ArrivalEffect, type ArrivalRow, arrivalEffect } from '../parts/arrival-effect.js';
import { inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { type KeeperSlots, queryWaking, wakingStatements } from '../runs/lease-to-keepers.js';

export interface SendSignal {
  readonly namespace: string;
  readonly runId: string;
  readonly name: string;
  readonly payload: Payload | null;
  /** Null: every call sends another signal. */
  readonly requestId: string | null;
  /** Who sends it, for people. */
  readonly sender: string;
  /** Most signals that a run may keep which no step has received. */
  readonly maxUnconsumed: number;
}
export type SendSignalOutcome =
  | { readonly kind: 'run_not_found' }
  | { readonly kind: 'run_closed'; readonly status: RunStatus }
  | { readonly kind: 'too_many_signals'; readonly max: number }
  | { readonly kind: 'sent'; readonly seq: number; readonly effect: ArrivalEffect }
  /** Sent before, with the same request id. */
  | { readonly kind: 'already_sent'; readonly seq: number };

const SEND_SIGNALS = wakingStatements('send_signals', {
  told: `select * from perdure.send_signals($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::int)`,
  parameters: 8,
  on: 'l.ord = t.ord',
});

interface Row extends VerdictRow, ArrivalRow {
  readonly seq: number;
  readonly status: RunStatus;
}

/**
 * @param keepers slots that suspended runs may be leased to
 * @returns one outcome per command, in their order
 */
export function sendSignals(
  db: Database,
  commands: readonly SendSignal[],
  keepers?: KeeperSlots,
): Promise<SendSignalOutcome[]> {
  let next = 0;
  // A repeat in the same batch is judged once it is known what became of the first: that may have been refused.
  const keyOf = ({ runId, requestId }: SendSignal) => (requestId === null ? `${next++}` : `${runId}/${requestId}`);
  return inRounds(commands, keyOf, (round) => sendOnce(db, round, keepers));
}

async function sendOnce(
  db: Database,
  commands: readonly SendSignal[],
  keepers: KeeperSlots | undefined,
): Promise<SendSignalOutcome[]> {
  const max = Math.min(...commands.map(({ maxUnconsumed }) => maxUnconsumed));
  const parameters = [
    plainArray(commands, (command) => command.runId),
    textArray(commands, (command) => command.namespace),
    textArray(commands, (command) => command.name),
    byteaArray(commands, (command) => command.payload?.data),
    textArray(commands, (command) => command.payload?.encoding),
    textArray(commands, (command) => command.requestId),
    textArray(commands, (command) => command.sender),
    max,
  ];
  const runIds = commands.map(({ runId }) => runId);
  const { rows, leased } = await queryWaking<Row>(db, SEND_SIGNALS, parameters, runIds, keepers);
  return rows.map((row, index) => outcomeOf(commands[index] as SendSignal, row, max, leased));
}

function outcomeOf(
  { namespace, runId }: SendSignal,
  row: Row,
  max: number,
  leased: ReadonlySet<string>,
): SendSignalOutcome {
  switch (row.verdict) {
    case 'run_not_found':
      return { kind: 'run_not_found' };
    case 'run_closed':
      return { kind: 'run_closed', status: row.status };
    case 'too_many':
      return { kind: 'too_many_signals', max };
    case 'duplicate':
      return { kind: 'already_sent', seq: row.seq };
    case 'sent':
      return { kind: 'sent', seq: row.seq, effect: arrivalEffect(namespace, row, leased.has(runId)) };
    default:
      return unknownVerdict('send_signals', row.verdict);
  }
}
