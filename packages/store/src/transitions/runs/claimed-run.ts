/** What statements that lease runs answer with, and the claims that are made of it. */
import type { ClaimedRun } from '../../commands.js';
import { payloadOf } from '../../database/payload-columns.js';
import type { Failure, MemoEntry, StepKind, StepStatus } from '../../model.js';
import { MEMO_START } from '../../reads/read-memo.js';
import type { RunRow } from '../../reads/run-row.js';

/** Most outcomes, and most of their bytes, that one claim takes. The worker takes the rest. */
export const MAX_ARRIVALS = 1_000;
export const MAX_ARRIVAL_BYTES = 256 * 1024;

/** A leased run with one outcome that had arrived for it, or none. */
export interface ClaimedRow
  extends Pick<
    RunRow,
    | 'run_id'
    | 'workflow_id'
    | 'workflow_type'
    | 'build'
    | 'lease_token'
    | 'attempt'
    | 'retries'
    | 'lost_leases'
    | 'cancel_requested_at'
    | 'compensation'
    | 'created_at'
    | 'started_at'
    | 'run_deadline_at'
    | 'execution_deadline_at'
    | 'input'
    | 'input_encoding'
  > {
  /** The place of the slot, from 1. */
  readonly ord: number;
  readonly now: Date;
  readonly lease_ms: number;
  readonly cancel_lease_token: number | null;
  readonly cancel_event_seq: number | null;
  /** What had arrived for the run: a row for each, the first with `nth` 1. Null: nothing. */
  readonly nth: number | null;
  readonly arrived: number;
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
}

/** For a worker that has the run's code in memory, or asks for its memo. */
export const CODE_IN_MEMORY: Pick<ClaimedRun, 'memo' | 'nextMemoCursor'> = { memo: [], nextMemoCursor: MEMO_START };

/**
 * @param rows of one claimed run, at least one
 * @param arrivals those of the rows that the worker is given beside the memo
 */
export function claimedRun(
  namespace: string,
  rows: readonly ClaimedRow[],
  arrivals: readonly MemoEntry[],
  code: Pick<ClaimedRun, 'memo' | 'nextMemoCursor'>,
): ClaimedRun {
  const [row] = rows as [ClaimedRow];
  return {
    run: {
      runId: row.run_id,
      namespace,
      workflowId: row.workflow_id,
      workflowType: row.workflow_type,
      build: row.build,
      leaseToken: row.lease_token,
      attempt: row.attempt,
      retries: row.retries,
      lostLeases: row.lost_leases,
      cancelObserved:
        row.cancel_lease_token === null || row.cancel_event_seq === null
          ? null
          : { leaseToken: row.cancel_lease_token, eventSeq: row.cancel_event_seq },
      cancelRequestedAt: row.cancel_requested_at,
      compensation: row.compensation,
      createdAt: row.created_at,
      startedAt: row.started_at,
      runDeadlineAt: row.run_deadline_at,
      executionDeadlineAt: row.execution_deadline_at,
      input: payloadOf(row.input, row.input_encoding),
    },
    leaseMs: row.lease_ms,
    now: row.now,
    hasArrivals: row.nth !== null && row.arrived > rows.length,
    arrivals,
    ...code,
  };
}

export function arrivalOf(row: ClaimedRow): MemoEntry {
  return {
    runId: row.run_id,
    stepId: row.step_id,
    seq: row.seq,
    kind: row.kind,
    attemptNumber: row.attempt_number,
    countedAttempt: 1,
    status: row.status,
    output: payloadOf(row.output, row.output_encoding),
    failure: row.failure,
    leaseToken: row.lease_token,
    eventSeq: 1,
    isCut: false,
    finishedAt: row.finished_at,
    nextRetryAt: null,
    firesAt: row.fires_at,
    heartbeat: null,
  };
}
