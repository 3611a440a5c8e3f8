/**
 * Gives outcomes that came from outside their place in the order of results, for the worker that holds the run: only then they may be
 * delivered to its code (decision 0020). All outcomes of one call share one place, and are delivered in the order of the answer, which is
 * the order of the memo. Waits that the caller names and whose timeout has passed by the database's clock become TIMED_OUT.
 * The whole SQL is the function `perdure.take_arrivals`.
 *
 * A repeat with the same place, however late, takes nothing more: it is answered like the first call.
 */
import type { TakeArrivals, TakeArrivalsOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { plainArray, textArray } from '../../database/literals.js';
import { payloadOf } from '../../database/payload-columns.js';
import { defineStatement } from '../../database/statement.js';
import type { Failure, StepKind, StepStatus } from '../../model.js';
import { withReceivedUpdates } from '../../reads/received-updates.js';
import { fenceOutcome, fenceParameters, inRounds, unknownVerdict, type VerdictRow } from '../parts/batch.js';

/** Most outcomes of one answer. */
const MAX_ENTRIES = 1_000;
/** Most bytes of outputs and failures of one answer, exceeded by at most one outcome. */
const MAX_BYTES = 1024 * 1024;

const TAKE_ARRIVALS = defineStatement(
  'take_arrivals',
  `select * from perdure.take_arrivals($1::uuid[], $2::text[], $3::int[], $4::int[], $5::bigint[], $6::text[], $7::int, $8::float8)`,
);

interface Row extends VerdictRow {
  readonly has_more: boolean;
  readonly step_id: string;
  readonly seq: number;
  readonly kind: StepKind;
  readonly attempt_number: number;
  readonly status: StepStatus;
  readonly output: Uint8Array | null;
  readonly output_encoding: string | null;
  readonly failure: Failure | null;
  readonly finished_at: Date | null;
  readonly fires_at: Date | null;
  readonly remaining_ms: number;
}

/** @returns one outcome per command, in their order */
export function takeArrivals(db: Database, commands: readonly TakeArrivals[]): Promise<TakeArrivalsOutcome[]> {
  return inRounds(
    commands,
    (command) => command.runId,
    async (round) => {
      const due = round.flatMap(({ dueStepIds }, index) => dueStepIds.map((stepId) => ({ stepId, ord: index + 1 })));
      const rows = await db.query<Row>(TAKE_ARRIVALS, [
        ...fenceParameters(round),
        plainArray(round, (command) => command.eventSeq),
        plainArray(due, ({ ord }) => ord),
        textArray(due, ({ stepId }) => stepId),
        MAX_ENTRIES,
        MAX_BYTES,
      ]);
      const rowsOf = round.map((): Row[] => []);
      for (const row of rows) rowsOf[row.ord - 1]?.push(row);
      const outcomes = round.map((command, index) => outcomeOf(command, rowsOf[index] as Row[]));
      const taken = await withReceivedUpdates(
        db,
        outcomes.map((outcome) => (outcome.kind === 'taken' ? outcome.arrivals : [])),
      );
      return outcomes.map((outcome, index) =>
        outcome.kind === 'taken' ? { ...outcome, arrivals: taken[index] ?? [] } : outcome,
      );
    },
  );
}

function outcomeOf(command: TakeArrivals, rows: readonly Row[]): TakeArrivalsOutcome {
  const verdict = rows.find((row) => row.verdict !== 'not_due')?.verdict ?? '';
  if (verdict !== 'taken' && verdict !== 'nothing') {
    return fenceOutcome(verdict) ?? unknownVerdict('take_arrivals', verdict);
  }
  return {
    kind: 'taken',
    hasMore: rows.some((row) => row.has_more),
    arrivals: rows.flatMap((row) =>
      row.verdict !== 'taken'
        ? []
        : [
            {
              runId: command.runId,
              stepId: row.step_id,
              seq: row.seq,
              kind: row.kind,
              attemptNumber: row.attempt_number,
              countedAttempt: 1,
              status: row.status,
              output: payloadOf(row.output, row.output_encoding),
              failure: row.failure,
              leaseToken: command.leaseToken,
              eventSeq: command.eventSeq,
              isCut: false,
              finishedAt: row.finished_at,
              nextRetryAt: null,
              firesAt: row.fires_at,
              heartbeat: null,
            },
          ],
    ),
    notDue: rows.flatMap((row) =>
      row.verdict === 'not_due' ? [{ stepId: row.step_id, remainingMs: row.remaining_ms }] : [],
    ),
  };
}
