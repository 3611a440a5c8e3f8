import { payloadOf } from '../database/payload-columns.js';
import type {
  Compensation,
  Failure,
  Origin,
  Parent,
  ParentClose,
  Run,
  RunOrigin,
  RunStatus,
  YieldReason,
} from '../model.js';
import { OPEN_PAUSE, type OpenPauseJson, openPauseOf, shownStatus } from './run-pauses.js';

/** Columns of a run without its payloads, for a table aliased `r`. */
export const RUN_COLUMNS = `r.run_id, r.namespace, r.workflow_id, r.workflow_type, r.build, r.task_queue, r.priority,
    ${shownStatus('r')} as status, r.yield_reason, r.attempt, r.lease_token, r.leased_by, r.lease_expires_at, r.available_at, r.wake_at,
    r.run_deadline_at, r.execution_deadline_at,
    (select l.chain_deadline_at from perdure.run_limits l where l.run_id = r.run_id) as chain_deadline_at, r.cancel_requested_at, r.cancel_reason, r.lost_leases, r.retries,
    r.created_at, r.started_at, r.updated_at, r.finished_at, r.failure, r.last_release_reason,
    r.compensation, r.parent_run_id, r.parent_step_id, r.parent_close, r.origin_run_id, r.origin_kind, r.first_run_id, r.next_run_id,
    r.reopened_at, case when r.status = 'FAILED' then perdure.failure_fingerprint(r.workflow_type, r.failure) end as failure_fingerprint,
    case when r.status = 'FAILED' and r.resolved_at >= r.finished_at then r.resolved_at end as resolved_at, ${OPEN_PAUSE} as pause`;

export interface RunRow {
  readonly run_id: string;
  readonly namespace: string;
  readonly workflow_id: string;
  readonly workflow_type: string;
  readonly build: string;
  readonly task_queue: string;
  readonly priority: number;
  readonly status: RunStatus;
  readonly yield_reason: YieldReason | null;
  readonly attempt: number;
  readonly lease_token: number;
  readonly leased_by: string | null;
  readonly lease_expires_at: Date | null;
  readonly available_at: Date | null;
  readonly wake_at: Date | null;
  readonly run_deadline_at: Date | null;
  /** Before the first claim: that of the start timeout. */
  readonly execution_deadline_at: Date | null;
  readonly chain_deadline_at: Date | null;
  readonly cancel_requested_at: Date | null;
  readonly cancel_reason: string | null;
  readonly lost_leases: number;
  readonly retries: number;
  readonly created_at: Date;
  readonly started_at: Date | null;
  readonly updated_at: Date;
  readonly finished_at: Date | null;
  readonly failure: Failure | null;
  readonly last_release_reason: string | null;
  readonly compensation: Compensation | null;
  readonly parent_run_id: string | null;
  readonly parent_step_id: string | null;
  readonly parent_close: ParentClose | null;
  readonly origin_run_id: string | null;
  readonly origin_kind: RunOrigin | null;
  readonly first_run_id: string | null;
  readonly next_run_id: string | null;
  readonly reopened_at: Date | null;
  readonly failure_fingerprint: string | null;
  readonly resolved_at: Date | null;
  readonly pause: OpenPauseJson | null;
  readonly input?: Uint8Array | null;
  readonly input_encoding?: string | null;
  readonly output?: Uint8Array | null;
  readonly output_encoding?: string | null;
}

export function runOf(row: RunRow): Run {
  return {
    runId: row.run_id,
    namespace: row.namespace,
    workflowId: row.workflow_id,
    workflowType: row.workflow_type,
    build: row.build,
    taskQueue: row.task_queue,
    priority: row.priority,
    status: row.status,
    yieldReason: row.yield_reason,
    attempt: row.attempt,
    leaseToken: row.lease_token,
    leasedBy: row.leased_by,
    leaseExpiresAt: row.lease_expires_at,
    availableAt: row.available_at,
    wakeAt: row.wake_at,
    runDeadlineAt: row.run_deadline_at,
    executionDeadlineAt: row.started_at === null ? null : row.execution_deadline_at,
    startDeadlineAt: row.started_at === null ? row.execution_deadline_at : null,
    chainDeadlineAt: row.chain_deadline_at,
    cancelRequestedAt: row.cancel_requested_at,
    cancelReason: row.cancel_reason,
    lostLeases: row.lost_leases,
    retries: row.retries,
    createdAt: row.created_at,
    startedAt: row.started_at,
    updatedAt: row.updated_at,
    finishedAt: row.finished_at,
    failure: row.failure,
    lastReleaseReason: row.last_release_reason,
    compensation: row.compensation,
    parent: parentOf(row),
    origin: originOf(row),
    firstRunId: row.first_run_id,
    nextRunId: row.next_run_id,
    retriedAt: row.reopened_at,
    failureFingerprint: row.failure_fingerprint,
    resolvedAt: row.resolved_at,
    pause: openPauseOf(row.pause),
    ...(row.input === undefined ? {} : { input: payloadOf(row.input, row.input_encoding) }),
    ...(row.output === undefined ? {} : { output: payloadOf(row.output, row.output_encoding) }),
  };
}

function parentOf({ parent_run_id, parent_step_id, parent_close }: RunRow): Parent | null {
  if (parent_run_id === null || parent_step_id === null || parent_close === null) return null;
  return { runId: parent_run_id, stepId: parent_step_id, close: parent_close };
}

function originOf({ origin_run_id, origin_kind }: RunRow): Origin | null {
  if (origin_run_id === null || origin_kind === null) return null;
  return { runId: origin_run_id, kind: origin_kind };
}
