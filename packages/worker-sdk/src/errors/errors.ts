import type { Duration } from '../duration.js';
import { authorsStack } from './stack.js';
/** Throw it from a step or a workflow to stop at once: no policy retries it. */
export class TerminalError extends Error {
  override readonly name: string = 'TerminalError';
  /** For programs; kept across processes. */
  readonly code?: string;
  /** More data; anything the codec can encode. */
  readonly details?: unknown;

  constructor(message: string, options: ErrorOptions & { readonly code?: string; readonly details?: unknown } = {}) {
    super(message, options);
    if (options.code !== undefined) this.code = options.code;
    if (options.details !== undefined) this.details = options.details;
  }
}

/** Throw it from a step to choose the time of the next try; how many there are is still up to the policy. */
export class RetryableError extends Error {
  override readonly name: string = 'RetryableError';
  /** Wait before the next try; default: by the policy. */
  readonly after?: Duration | Date;
  readonly code?: string;
  readonly details?: unknown;

  constructor(
    message: string,
    options: ErrorOptions & {
      readonly after?: Duration | Date;
      readonly code?: string;
      readonly details?: unknown;
    } = {},
  ) {
    super(message, options);
    if (options.after !== undefined) this.after = options.after;
    if (options.code !== undefined) this.code = options.code;
    if (options.details !== undefined) this.details = options.details;
  }
}

/** The run was cancelled. Thrown by the next call on `ctx`; clean up in `ctx.uncancellable`, then let it pass. */
export class CancelledError extends Error {
  override readonly name: string = 'CancelledError';
  constructor(message = 'The run was cancelled.', options?: ErrorOptions) {
    super(message, options);
  }
}

/** A try of a step took longer than the step's `timeout`. */
export class StepTimeoutError extends Error {
  override readonly name: string = 'StepTimeoutError';
}

/** A step reported no heartbeat within its `heartbeatTimeout`. */
export class HeartbeatTimeoutError extends Error {
  override readonly name: string = 'HeartbeatTimeoutError';
}

/** The worker that ran an attempt died or stalled, and the step may not be executed a second time. */
export class WorkerLostError extends Error {
  override readonly name: string = 'WorkerLostError';
}

/** A result, input or detail is larger than the server accepts. Keep it elsewhere and pass a reference. */
export class PayloadTooLargeError extends Error {
  override readonly name: string = 'PayloadTooLargeError';
}

/** The input does not fit the workflow's schema. */
export class InvalidInputError extends Error {
  override readonly name: string = 'InvalidInputError';
}

/** The worker's right to advance the run has ended; another worker continues it. The reason of an aborted `signal`. */
export class LeaseLostError extends Error {
  override readonly name: string = 'LeaseLostError';
}

/** What a run asked for differs from what was recorded. Fails the run; code cannot catch it. */
export class NonDeterminismError extends Error {
  override readonly name: string = 'NonDeterminismError';
}

/** What is known of a run that ended, or was not awaited any longer. */
export interface RunReference {
  readonly runId: string;
  readonly workflowId: string;
  readonly workflowType?: string | undefined;
}

abstract class RunEndedError extends Error {
  readonly runId: string;
  readonly workflowId: string;
  /** Empty when only the run id was known to who awaited it. */
  readonly workflowType: string;
  constructor(what: string, run: RunReference, options?: ErrorOptions) {
    super(`${nameOfRun(run)} ${what}`, options);
    this.runId = run.runId;
    this.workflowId = run.workflowId;
    this.workflowType = run.workflowType ?? '';
    if (this.stack !== undefined) {
      Object.defineProperty(this, 'stack', { value: authorsStack(this.stack), configurable: true, writable: true });
    }
  }
}

/** The awaited run FAILED; `cause` is the error, with name, message, stack, code, details and causes of its own. */
export class WorkflowFailedError extends RunEndedError {
  override readonly name: string = 'WorkflowFailedError';
  override readonly cause: Error;
  /** The step whose failure ended the run; empty when it was none. */
  readonly stepId: string;
  constructor(run: RunReference, cause: Error, stepId = '') {
    super(`failed${stepId === '' ? '' : ` in step '${stepId}'`}: ${nameOfError(cause)}`, run, { cause });
    this.cause = cause;
    this.stepId = stepId;
  }
}

/** The awaited run ended CANCELLED. */
export class WorkflowCancelledError extends RunEndedError {
  override readonly name: string = 'WorkflowCancelledError';
  constructor(run: RunReference, reason: string) {
    super(`was cancelled${reasonText(reason)}`, run);
  }
}

/** The awaited run was TERMINATED. */
export class WorkflowTerminatedError extends RunEndedError {
  override readonly name: string = 'WorkflowTerminatedError';
  constructor(run: RunReference, reason: string) {
    super(`was terminated${reasonText(reason)}`, run);
  }
}

/** A wait for a result was given up; the run continues. `cause`: why the server did not answer, when it did not. */
export class AwaitTimeoutError extends RunEndedError {
  override readonly name: string = 'AwaitTimeoutError';
  constructor(run: RunReference, timeoutMs: number, options?: ErrorOptions) {
    super(`did not end within ${timeoutMs} ms; it continues.`, run, options);
  }
}

const GENERATED_ID = /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[\da-f]{4}-[\da-f]{12}$/;

/** With one id when the workflow id was not chosen by anybody. */
function nameOfRun({ runId, workflowId, workflowType }: RunReference): string {
  const type = workflowType === undefined || workflowType === '' ? 'Run' : `Workflow '${workflowType}'`;
  const isChosen = workflowId !== '' && workflowId !== runId && !GENERATED_ID.test(workflowId);
  if (isChosen) return `${type} (id '${workflowId}', run ${runId})`;
  return type === 'Run' ? `Run ${runId}` : `${type} (run ${runId})`;
}

function nameOfError(error: Error): string {
  const { name, message } = error;
  const { code } = error as { code?: unknown };
  const kind = code === undefined ? name : `${name} [${String(code)}]`;
  return kind === 'Error' ? message : `${kind}: ${message}`;
}

/** Ends with one full stop, whatever the reason ends with. */
function reasonText(reason: string): string {
  if (reason === '') return '.';
  return /[.!?]$/.test(reason) ? `: ${reason}` : `: ${reason}.`;
}
