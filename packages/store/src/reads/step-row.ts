import { payloadOf } from '../database/payload-columns.js';
import type { Failure, StepAttempt, StepKind, StepStatus } from '../model.js';

/** Columns of an attempt without its payloads, for a table aliased `s`. */
export const STEP_COLUMNS = `s.run_id, s.step_id, s.seq, s.kind, s.attempt_number, s.counted_attempt, s.max_counted_attempts, s.is_latest, s.is_cut,
    s.status, s.worker_id, s.lease_token, s.event_seq, s.started_at, s.finished_at, s.next_retry_at, s.fires_at,
    s.awaits, s.deadline_at, s.failure, s.action_seq`;

export const STEP_PAYLOAD_COLUMNS =
  's.input, s.input_encoding, s.output, s.output_encoding, s.heartbeat, s.heartbeat_encoding, s.payload_run_id, s.payload_attempt';

export interface StepRow {
  readonly run_id: string;
  readonly step_id: string;
  readonly seq: number;
  readonly kind: StepKind;
  readonly attempt_number: number;
  readonly counted_attempt: number;
  readonly max_counted_attempts: number;
  readonly is_latest: boolean;
  readonly is_cut: boolean;
  readonly status: StepStatus;
  readonly worker_id: string | null;
  readonly lease_token: number;
  readonly event_seq: number | null;
  readonly started_at: Date;
  readonly finished_at: Date | null;
  readonly next_retry_at: Date | null;
  readonly fires_at: Date | null;
  readonly awaits: string | null;
  readonly deadline_at: Date | null;
  readonly failure: Failure | null;
  readonly action_seq: number | null;
  readonly input?: Uint8Array | null;
  readonly input_encoding?: string | null;
  readonly output?: Uint8Array | null;
  readonly output_encoding?: string | null;
  readonly heartbeat?: Uint8Array | null;
  readonly payload_run_id?: string | null;
  readonly payload_attempt?: number | null;
  readonly heartbeat_encoding?: string | null;
}

export function stepOf(row: StepRow): StepAttempt {
  return {
    runId: row.run_id,
    stepId: row.step_id,
    seq: row.seq,
    kind: row.kind,
    attemptNumber: row.attempt_number,
    countedAttempt: row.counted_attempt,
    maxCountedAttempts: row.max_counted_attempts,
    isLatest: row.is_latest,
    isCut: row.is_cut,
    status: row.status,
    workerId: row.worker_id,
    leaseToken: row.lease_token,
    eventSeq: row.event_seq,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
    nextRetryAt: row.next_retry_at,
    firesAt: row.fires_at,
    awaits: row.awaits,
    deadlineAt: row.deadline_at,
    failure: row.failure,
    actionSeq: row.action_seq,
    ...(row.input === undefined ? {} : { input: payloadOf(row.input, row.input_encoding) }),
    ...(row.output === undefined ? {} : { output: payloadOf(row.output, row.output_encoding) }),
    ...(row.heartbeat === undefined ? {} : { heartbeat: payloadOf(row.heartbeat, row.heartbeat_encoding) }),
  };
}
