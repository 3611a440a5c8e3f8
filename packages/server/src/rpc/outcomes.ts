/** Maps the outcomes of commands to errors. The message is for people; the metadata is for programs. */
import { ErrorReason } from '@perdure/proto';
import {
  type BulkStatus,
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
    `There is no run '${ref}' in this namespace. Check the id and the namespace; \`perdure run list\` lists the runs.`,
    { metadata: { run: ref } },
  );
}

export function stepNotFound(runId: string, stepId: string, attemptNumber: number): RpcError {
  const attempt = attemptNumber === 0 ? '' : `attempt ${attemptNumber} of `;
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.STEP_NOT_FOUND,
    `There is no ${attempt}step '${stepId}' in run ${runId}. \`perdure run history ${runId}\` lists its steps.`,
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
    `There is no worker ${workerId} in this namespace. \`perdure worker list\` lists the workers.`,
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
    `Lease token ${lease.leaseToken} is not the current one of run ${lease.runId}: the lease has expired, or the run was ` +
      'given back or has ended. Nothing was changed. Drop the run and its results.',
    { metadata: { run_id: lease.runId, lease_token: String(lease.leaseToken) } },
  );
}

export function wrongAttempt(runId: string, stepId: string, sent: number, outcome: WrongAttempt): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_ATTEMPT,
    `Attempt ${sent} of step '${stepId}' (run ${runId}) is not open: the latest attempt is ${outcome.latestAttempt} ` +
      `(${outcome.latestStatus}). Send the number of the open attempt, or one more than that of a failed attempt that may be retried.`,
    { metadata: { run_id: runId, step_id: stepId, latest_attempt: String(outcome.latestAttempt) } },
  );
}

export function endedByHand(runId: string, stepId: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.STEP_ENDED,
    `Step '${stepId}' of run ${runId} was ended by hand. Nothing was changed. Drop what its body has done; TakeArrivals brings the outcome, ` +
      'if the run has not taken it before.',
    { metadata: { run_id: runId, step_id: stepId } },
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
      `code now uses it as ${asked.kind} at position ${asked.seq}. Give the step another name, or execute the run with the code it began with.`,
    { metadata: { run_id: runId, step_id: stepId } },
  );
}

export function cancelRequested(runId: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.CANCEL_REQUESTED,
    `Run ${runId} is being cancelled, so no new step may begin, except steps of its clean-up.`,
    { metadata: { run_id: runId } },
  );
}

export function runPaused(runId: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.RUN_PAUSED,
    `Run ${runId} is paused, so no new step may begin. Nothing was changed. Release the run when its bodies under way have ended; ` +
      'what was refused is executed when the run is resumed.',
    { metadata: { run_id: runId } },
  );
}

export function timerNotDue(runId: string, stepId: string, remainingMs: number): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.TIMER_NOT_DUE,
    `Timer '${stepId}' of run ${runId} is not due: it fires in ${Math.ceil(remainingMs)} ms by the database's clock.`,
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

export function bulkNotFound(operationId: string): RpcError {
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.BULK_OPERATION_NOT_FOUND,
    `There is no bulk operation ${operationId} in this namespace. \`perdure bulk list\` lists the operations.`,
    { metadata: { operation_id: operationId } },
  );
}

/** @param action completes "cannot be …" */
export function bulkEnded(operationId: string, status: BulkStatus, action: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.BULK_OPERATION_ENDED,
    `Bulk operation ${operationId} is ${status} and cannot be ${action}: it has ended. Nothing was changed.`,
    { metadata: { operation_id: operationId, status } },
  );
}

export function runClosed(runId: string, status: RunStatus): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.RUN_CLOSED,
    `Run ${runId} is ${status}: it has ended and takes no message. Nothing was sent.`,
    { metadata: { run_id: runId, status } },
  );
}

/** @param action completes "cannot be …" */
export function endedRun(runId: string, action: string, status: RunStatus): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.RUN_CLOSED,
    `Run ${runId} is ${status} and cannot be ${action}: it has ended.`,
    { metadata: { run_id: runId, status } },
  );
}

export function promiseNotFound(promiseId: string): RpcError {
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.PROMISE_NOT_FOUND,
    `There is no promise '${promiseId}' in this namespace. Its run was deleted, or has not recorded it yet; \`perdure promise list\` lists the pending ones.`,
    { metadata: { promise_id: promiseId } },
  );
}

export function tooManySignals(runId: string, max: number): RpcError {
  return new RpcError(
    StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.TOO_MANY_SIGNALS,
    `Run ${runId} keeps ${max.toLocaleString('en')} signals that no step has received, as many as it may (--max-unconsumed-signals of the server). ` +
      'Nothing was sent. Does its code wait for signals of this name?',
    { metadata: { run_id: runId, max: String(max) } },
  );
}

export function tooManyUpdates(runId: string, max: number): RpcError {
  return new RpcError(
    StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.TOO_MANY_UPDATES,
    `Run ${runId} keeps ${max.toLocaleString('en')} updates that are not answered, as many as it may (--max-unconsumed-signals of the server). ` +
      'Nothing was sent. Does its code handle updates of this name?',
    { metadata: { run_id: runId, max: String(max) } },
  );
}

export function updateNotFound(runId: string, stepId: string): RpcError {
  return new RpcError(
    StatusCode.NOT_FOUND,
    ErrorReason.STEP_NOT_FOUND,
    `Step '${stepId}' of run ${runId} has received no update. Answer under the id of the UPDATE step that received it.`,
    { metadata: { run_id: runId, step_id: stepId } },
  );
}

export function isTerminal(status: RunStatus): boolean {
  return (TERMINAL_STATUSES as readonly RunStatus[]).includes(status);
}

export function workflowAlreadyExists(
  workflowId: string,
  { runId, status }: { readonly runId: string; readonly status: RunStatus },
): RpcError {
  return new RpcError(
    StatusCode.ALREADY_EXISTS,
    ErrorReason.WORKFLOW_ALREADY_EXISTS,
    `Workflow id '${workflowId}' is in use by run ${runId} (${status}). That run was started with another type, queue or ` +
      'input, or the reuse policy allows no run after it. Nothing was changed. Choose another workflow id or reuse policy.',
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
    `Run ${runId} has no cancel request to observe, to confirm, or to end a step with. Nothing was changed.`,
    { metadata: { run_id: runId } },
  );
}

export function unknownWait(runId: string, stepIds: readonly string[]): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_ATTEMPT,
    `Run ${runId} cannot wait for ${named(stepIds)}: a timer needs a scheduled SLEEP step, a retry a failed attempt that is ` +
      'retried, and a timeout or arrivals_awaited a step that AwaitStep has begun.',
    { metadata: { run_id: runId } },
  );
}

const MAX_NAMED = 5;

function named(stepIds: readonly string[]): string {
  if (stepIds.length === 0) return 'nothing';
  const names = stepIds.slice(0, MAX_NAMED).map((stepId) => `'${stepId}'`);
  if (stepIds.length > MAX_NAMED) names.push(`${stepIds.length - MAX_NAMED} more steps`);
  return names.join(', ');
}

export function workerRefused(workerId: string, kind: 'worker_not_registered' | 'worker_draining'): RpcError {
  return kind === 'worker_draining'
    ? new RpcError(
        StatusCode.FAILED_PRECONDITION,
        ErrorReason.WORKER_DRAINING,
        `Worker ${workerId} is draining and gets no new runs. Deregister it and register again to get runs.`,
        { metadata: { worker_id: workerId } },
      )
    : new RpcError(
        StatusCode.FAILED_PRECONDITION,
        ErrorReason.WORKER_NOT_REGISTERED,
        `Worker ${workerId} is not registered in this namespace, or has been deregistered. Call RegisterWorker first.`,
        { metadata: { worker_id: workerId } },
      );
}

/** @param what completes "The worker …" */
export function workerMismatch(workerId: string, what: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WORKER_MISMATCH,
    `Worker ${workerId} ${what}. Poll for what the worker registered, or register again.`,
    { metadata: { worker_id: workerId } },
  );
}

/**
 * The error that the caller gets for a thrown one; undefined when that is a bug in Perdure.
 */
export function knownFailure(error: unknown): RpcError | undefined {
  if (error instanceof RpcError) return error;
  if (error instanceof DatabaseUnavailableError) {
    return new RpcError(
      StatusCode.UNAVAILABLE,
      ErrorReason.DATABASE_UNAVAILABLE,
      'The database cannot be reached. The call may or may not have been carried out; repeat it.',
      { retryAfterMs: 500, cause: error },
    );
  }
  if (error instanceof DataError) return valueRefused(error);
  return undefined;
}
