/** The one mapping from outcomes to errors. What a caller may expect is in the message; what programs need, in the metadata. */
import { ErrorReason } from '@perdure/proto';
import {
  DatabaseUnavailableError,
  DataError,
  type FenceOutcome,
  type LeaseRef,
  type RunStatus,
  type StepMismatch,
  TERMINAL_STATUSES,
  type WrongAttempt,
  type WrongRunState,
} from '@perdure/store';
import { RpcError, StatusCode } from '../call/rpc-error.js';

export function runNotFound(ref: string): RpcError {
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.RUN_NOT_FOUND,
    `No run '${ref}' in this namespace. Check the id and the namespace; \`perdure run list\` shows what is there.`,
    { metadata: { run: ref } },
  );
}

export function stepNotFound(runId: string, stepId: string, attemptNumber: number): RpcError {
  const attempt = attemptNumber === 0 ? '' : `attempt ${attemptNumber} of `;
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.STEP_NOT_FOUND,
    `There is no ${attempt}step '${stepId}' in run ${runId}. \`perdure run history ${runId}\` shows its steps.`,
    { metadata: { run_id: runId, step_id: stepId } },
  );
}

export function namespaceNotFound(namespace: string): RpcError {
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.NAMESPACE_NOT_FOUND,
    `There is no namespace '${namespace}'. Create it with \`perdure namespace create ${namespace}\`.`,
    { metadata: { namespace } },
  );
}

export function workerNotFound(workerId: string): RpcError {
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.WORKER_NOT_FOUND,
    `No worker ${workerId} in this namespace. \`perdure worker list\` shows those that are there.`,
    { metadata: { worker_id: workerId } },
  );
}

export function isFenceRefusal(outcome: { readonly kind: string }): outcome is FenceOutcome {
  return outcome.kind === 'run_not_found' || outcome.kind === 'lease_lost';
}

export function fenceRefused(lease: LeaseRef, outcome: FenceOutcome): RpcError {
  if (outcome.kind === 'run_not_found') return runNotFound(lease.runId);
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.LEASE_LOST,
    `Lease token ${lease.leaseToken} of run ${lease.runId} is not the run's current one: the lease expired, or the run was ` +
      'given back or has ended. Nothing was changed. Drop the run and its results.',
    { metadata: { run_id: lease.runId, lease_token: String(lease.leaseToken) } },
  );
}

export function wrongAttempt(runId: string, stepId: string, sent: number, outcome: WrongAttempt): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_ATTEMPT,
    `Attempt ${sent} of step '${stepId}' (run ${runId}) cannot take this: attempt ${outcome.latestAttempt} is ` +
      `${outcome.latestStatus}. Expected is the open attempt, or the number after a failed one that may be retried.`,
    { metadata: { run_id: runId, step_id: stepId, latest_attempt: String(outcome.latestAttempt) } },
  );
}

export function stepMismatch(
  runId: string,
  stepId: string,
  asked: { readonly kind: string; readonly seq: number },
  outcome: StepMismatch,
): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.STEP_MISMATCH,
    `Step '${stepId}' of run ${runId} was recorded as ${outcome.recordedKind} at position ${outcome.recordedSeq}, but the ` +
      `code now asks for ${asked.kind} at position ${asked.seq}. Rename the step, or run the code that began the run.`,
    { metadata: { run_id: runId, step_id: stepId } },
  );
}

export function cancelRequested(runId: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.CANCEL_REQUESTED,
    `A cancel of run ${runId} was asked for, so no new step may begin but those of its clean-up.`,
    { metadata: { run_id: runId } },
  );
}

export function timerNotDue(runId: string, stepId: string, remainingMs: number): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.TIMER_NOT_DUE,
    `Timer '${stepId}' of run ${runId} fires in ${Math.ceil(remainingMs)} ms by the database's clock.`,
    { metadata: { run_id: runId, step_id: stepId }, retryAfterMs: remainingMs },
  );
}

export function wrongRunState(runId: string, action: string, outcome: WrongRunState): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_RUN_STATE,
    `Run ${runId} is ${outcome.status} and cannot be ${action}: ${isTerminal(outcome.status) ? 'it has ended.' : 'it has not ended. Cancel or terminate it first.'}`,
    { metadata: { run_id: runId, status: outcome.status } },
  );
}

function isTerminal(status: RunStatus): boolean {
  return (TERMINAL_STATUSES as readonly RunStatus[]).includes(status);
}

export function workflowAlreadyExists(
  workflowId: string,
  { runId, status }: { readonly runId: string; readonly status: RunStatus },
): RpcError {
  return new RpcError(
    StatusCode.ALREADY_EXISTS,
    ErrorReason.WORKFLOW_ALREADY_EXISTS,
    `Workflow id '${workflowId}' belongs to run ${runId}, which is ${status} and was started with ` +
      'another type, queue or input, or may not be followed by another run. Nothing was changed. Choose another workflow ' +
      'id, or another reuse policy.',
    { metadata: { run_id: runId, workflow_id: workflowId, status } },
  );
}

export function valueRefused(cause: DataError): RpcError {
  return new RpcError(
    StatusCode.INVALID_ARGUMENT,
    ErrorReason.INVALID_FIELD,
    'PostgreSQL cannot store a value of this request. Nothing was changed.',
    { cause },
  );
}

export function cancelNotRequested(runId: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_RUN_STATE,
    `No cancel of run ${runId} is requested, so there is none to observe, to confirm, or to end a step by.`,
    { metadata: { run_id: runId } },
  );
}

export function unknownWait(runId: string, stepIds: readonly string[]): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_ATTEMPT,
    `Run ${runId} cannot wait for ${named(stepIds)}: a timer wait needs a scheduled SLEEP ` +
      'step, a retry wait a failed attempt that another one follows.',
    { metadata: { run_id: runId } },
  );
}

const MAX_NAMED = 5;

function named(stepIds: readonly string[]): string {
  const names = stepIds.slice(0, MAX_NAMED).map((stepId) => `'${stepId}'`);
  if (stepIds.length > MAX_NAMED) names.push(`${stepIds.length - MAX_NAMED} more steps`);
  return names.join(', ');
}

export function workerRefused(workerId: string, kind: 'worker_not_registered' | 'worker_draining'): RpcError {
  return kind === 'worker_draining'
    ? new RpcError(
        StatusCode.FAILED_PRECONDITION,
        ErrorReason.WORKER_DRAINING,
        `Worker ${workerId} is draining and gets no more runs. Register again to take up work.`,
        { metadata: { worker_id: workerId } },
      )
    : new RpcError(
        StatusCode.FAILED_PRECONDITION,
        ErrorReason.WORKER_NOT_REGISTERED,
        `Worker ${workerId} is not registered in this namespace, or was taken off the list. Call RegisterWorker first.`,
        { metadata: { worker_id: workerId } },
      );
}

/** @param what completes "The worker …" */
export function workerMismatch(workerId: string, what: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WORKER_MISMATCH,
    `Worker ${workerId} ${what}. Poll for what was registered, or register again.`,
    { metadata: { worker_id: workerId } },
  );
}

/**
 * What a thrown error becomes for the caller; undefined when it is a bug in Perdure.
 */
export function knownFailure(error: unknown): RpcError | undefined {
  if (error instanceof RpcError) return error;
  if (error instanceof DatabaseUnavailableError) {
    return new RpcError(
      StatusCode.UNAVAILABLE,
      ErrorReason.DATABASE_UNAVAILABLE,
      'The database cannot be reached. The call may or may not have been carried out; a repeat is harmless.',
      { retryAfterMs: 500, cause: error },
    );
  }
  if (error instanceof DataError) return valueRefused(error);
  return undefined;
}
