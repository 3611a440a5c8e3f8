/** Why a run or a step is not what a person wants to make of it, as errors. */
import { ErrorReason } from '@perdure/proto';
import type { RunStatus, WrongRunState } from '@perdure/store';
import { RpcError, StatusCode } from '../call/rpc-error.js';
import { isTerminal } from './outcomes.js';

export function stepEnded(runId: string, stepId: string, status: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.STEP_ENDED,
    `Step '${stepId}' of run ${runId} is ${status}: its outcome is recorded. Nothing was changed.`,
    { metadata: { run_id: runId, step_id: stepId, status } },
  );
}

/** @param why completes "… cannot be ended by hand: " */
export function stepNotEndable(runId: string, stepId: string, why: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.STEP_ENDED,
    `Step '${stepId}' of run ${runId} cannot be ended by hand: ${why} Nothing was changed.`,
    { metadata: { run_id: runId, step_id: stepId } },
  );
}

export function notRetriable(runId: string, { status }: WrongRunState): RpcError {
  const instead = isTerminal(status)
    ? `it has a result, and only runs that FAILED, or were CANCELLED or TERMINATED, are retried. \`perdure run restart ${runId}\` starts it anew.`
    : 'it has not ended.';
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_RUN_STATE,
    `Run ${runId} is ${status} and cannot be retried: ${instead}`,
    { metadata: { run_id: runId, status } },
  );
}

export function notDismissible(runId: string, { status }: WrongRunState): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_RUN_STATE,
    `Run ${runId} is ${status} and cannot be dismissed: only runs that FAILED are dead letters.`,
    { metadata: { run_id: runId, status } },
  );
}

/** @param action completes "cannot be …" */
export function compensatedRun(runId: string, action: string, status: RunStatus): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_RUN_STATE,
    `Run ${runId} is ${status} and cannot be ${action}: what its steps have done is undone by its compensations, and the ${action} run would ` +
      `rely on it. \`perdure run restart ${runId}\` starts it anew.`,
    { metadata: { run_id: runId, status } },
  );
}

export function noUseForOutcome(runId: string, { status }: WrongRunState): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WRONG_RUN_STATE,
    `Run ${runId} is ${status} and cannot be retried, so nothing would use the outcome of its step. Nothing was changed.`,
    { metadata: { run_id: runId, status } },
  );
}

export function workflowIdInUse(runId: string, openRunId: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WORKFLOW_ID_IN_USE,
    `Run ${runId} cannot be opened again: run ${openRunId} with the same workflow id is open. Nothing was changed. ` +
      'Wait for the end of that run, or cancel or terminate it first.',
    { metadata: { run_id: runId, open_run_id: openRunId } },
  );
}

/** @param action completes "cannot be …" */
export function newWorkflowIdInUse(runId: string, action: string, workflowId: string, openRunId: string): RpcError {
  return new RpcError(
    StatusCode.FAILED_PRECONDITION,
    ErrorReason.WORKFLOW_ID_IN_USE,
    `Run ${runId} cannot be ${action}: run ${openRunId} with workflow id '${workflowId}' is open. Nothing was started. ` +
      'Wait for the end of that run, cancel or terminate it, or give the new run another workflow id.',
    { metadata: { run_id: runId, open_run_id: openRunId } },
  );
}
