import type { Duration } from '../duration.js';
import type { CompensationReport, FailedCompensation } from './compensation-report.js';
import { type ErrorFacts, type ErrorOrigin, errorFacts } from './error-facts.js';
import type { LostLease } from './lost-lease.js';
import { authorsStack } from './stack.js';

/** Throw it from a step or a workflow to fail without a retry, whatever the policy says. */
export class TerminalError extends Error {
  override readonly name: string = 'TerminalError';
  /** For programs; recorded with the failure. */
  readonly code?: string;
  /** More data; anything the codec can encode, at most 256 KiB encoded. */
  readonly details?: unknown;

  constructor(message: string, options: ErrorOptions & { readonly code?: string; readonly details?: unknown } = {}) {
    super(message, options);
    if (options.code !== undefined) this.code = options.code;
    if (options.details !== undefined) this.details = options.details;
  }
}

/** Throw it from a step to choose the time of the next attempt; the policy still limits their number. */
export class RetryableError extends Error {
  override readonly name: string = 'RetryableError';
  /** Wait before the next attempt, 0 to 10 years, or its time; default: by the policy. */
  readonly after?: Duration | Date;
  /** For programs; recorded with the failure. */
  readonly code?: string;
  /** More data; anything the codec can encode, at most 256 KiB encoded. */
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

/** The run is being cancelled. Thrown by the next call on `ctx`; clean up in `ctx.uncancellable`, then rethrow it. */
export class CancelledError extends Error {
  override readonly name: string = 'CancelledError';
  constructor(message = 'The run was cancelled.', options?: ErrorOptions) {
    super(message, options);
  }
}

/** A step or a run took longer than one of its timeouts; its subclasses say which. */
export abstract class TimeoutError extends Error {}

/** An attempt of a step took longer than the step's `timeout`. */
export class StepTimeoutError extends TimeoutError {
  override readonly name: string = 'StepTimeoutError';
}

/** A step reported no heartbeat within its `heartbeatTimeout`. */
export class HeartbeatTimeoutError extends TimeoutError {
  override readonly name: string = 'HeartbeatTimeoutError';
}

/** No worker claimed the run within its `startTimeout`. */
export class StartTimeoutError extends TimeoutError {
  override readonly name: string = 'StartTimeoutError';
}

/** An attempt of the run did not end within its `executionTimeout`. `cause`: the error of the attempt before, if there was one. */
export class ExecutionTimeoutError extends TimeoutError {
  override readonly name: string = 'ExecutionTimeoutError';
}

/** The run did not end within its `runTimeout`. `cause`: the error of its latest attempt, if one failed. */
export class RunTimeoutError extends TimeoutError {
  override readonly name: string = 'RunTimeoutError';
}

/** The run and those that it continues did not end within their `chainTimeout`. `cause`: the error of its latest attempt, if one failed. */
export class ChainTimeoutError extends TimeoutError {
  override readonly name: string = 'ChainTimeoutError';
}

/** A step failed, and the run had used up the retries that all of its steps share (`maxRetriesInAll`). `cause`: the error of the step. */
export class RetryBudgetError extends Error {
  override readonly name: string = 'RetryBudgetError';
}

/** The run lost its worker `maxLostLeases` times in a row, and was itself the cause. */
export class TooManyLostLeasesError extends Error {
  override readonly name: string = 'TooManyLostLeasesError';
  /** What is known of the lost workers, the latest last; at most 20. */
  readonly lostLeases: readonly LostLease[] = [];
}

/** The worker that ran an attempt died or stalled, and the step may not be executed a second time. */
export class WorkerLostError extends Error {
  override readonly name: string = 'WorkerLostError';
}

/** A result, input or detail is larger than the server accepts. Store it outside and pass a reference. */
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

/** The code requested something other than what was recorded. The run is held, or FAILs (`onNonDeterminism` of the worker); code cannot catch it. */
export class NonDeterminismError extends Error {
  override readonly name: string = 'NonDeterminismError';
}

/** A child run did not complete. `cause` is the error of the child; the message names it. */
export class ChildFailedError extends Error {
  override readonly name: string = 'ChildFailedError';
  /** Empty when no child was started. */
  readonly runId: string = '';
  readonly workflowId: string = '';
  readonly workflowType: string = '';

  /** That of the error of the child. */
  get category(): ErrorFacts['category'] {
    return errorFacts(this)?.category ?? 'application';
  }

  /** Where the error of the child began, through all levels; undefined when no child was started. */
  get origin(): ErrorOrigin | undefined {
    return errorFacts(this)?.origin;
  }
}

/** A child run was cancelled. */
export class ChildCancelledError extends ChildFailedError {
  override readonly name: string = 'ChildCancelledError';
}

/** A child run was terminated. */
export class ChildTerminatedError extends ChildFailedError {
  override readonly name: string = 'ChildTerminatedError';
}

/** A child run was not started, because its workflow id is taken. */
export class ChildNotStartedError extends ChildFailedError {
  override readonly name: string = 'ChildNotStartedError';
}

/** Compensations have used up their tries; the others have run. `cause`: the error that was to be compensated, or that of the first one. */
export class CompensationError extends Error {
  override readonly name: string = 'CompensationError';
  /** What could not be undone; empty when the error was recorded. */
  readonly failed: readonly FailedCompensation[];
  constructor(message: string, options: ErrorOptions & { readonly failed?: readonly FailedCompensation[] } = {}) {
    super(message, options);
    this.failed = options.failed ?? [];
  }
}

/** The run that an error is about. */
export interface RunReference {
  readonly runId: string;
  readonly workflowId: string;
  readonly workflowType?: string | undefined;
}

abstract class RunEndedError extends Error {
  readonly runId: string;
  readonly workflowId: string;
  /** Empty when the handle was made from a run id alone. */
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
  /** The error that the workflow's code threw. */
  override readonly cause: Error;
  /** The step whose failure ended the run; empty when the code itself threw. */
  readonly stepId: string;
  /** What was compensated, and what could not be; undefined when there was nothing to compensate. */
  readonly compensation: CompensationReport | undefined;
  /** What kind of failure it is; a closed set. */
  readonly category: ErrorFacts['category'];
  /** False: no retry policy may execute again what failed. */
  readonly retryable: boolean;
  /** Where it began: run, workflow, step and attempt, of a child perhaps; undefined when that is not known. */
  readonly origin: ErrorOrigin | undefined;
  /** A sentence for a person: what to do, with the command. */
  readonly suggestedAction: string;
  constructor(run: RunReference, cause: Error, stepId = '', compensation?: CompensationReport) {
    const where = stepId === '' ? '' : ` in step '${stepId}'`;
    super(`failed${where}: ${nameOfError(cause)}${compensationText(compensation)}`, run, { cause });
    this.cause = cause;
    this.stepId = stepId;
    this.compensation = compensation;
    const facts = errorFacts(cause);
    this.category = facts?.category ?? 'application';
    this.retryable = facts?.retryable ?? true;
    this.origin = facts?.origin;
    this.suggestedAction = facts?.suggestedAction ?? '';
  }
}

/** The awaited run ended CANCELLED. */
export class WorkflowCancelledError extends RunEndedError {
  override readonly name: string = 'WorkflowCancelledError';
  readonly category = 'cancelled';
  constructor(run: RunReference, reason: string) {
    super(`was cancelled${reasonText(reason)}`, run);
  }
}

/** The awaited run was TERMINATED. */
export class WorkflowTerminatedError extends RunEndedError {
  override readonly name: string = 'WorkflowTerminatedError';
  readonly category = 'terminated';
  constructor(run: RunReference, reason: string) {
    super(`was terminated${reasonText(reason)}`, run);
  }
}

/** The timeout of a wait for a result passed; the run continues. `cause`: why no server answered, when none did. */
export class AwaitTimeoutError extends RunEndedError {
  override readonly name: string = 'AwaitTimeoutError';
  constructor(run: RunReference, timeoutMs: number, options?: ErrorOptions) {
    super(`did not end within ${timeoutMs} ms; it continues.`, run, options);
  }
}

/** The code of the run has refused an update; nothing was carried out. `cause`: what its validator threw. */
export class UpdateRefusedError extends Error {
  override readonly name: string = 'UpdateRefusedError';
  readonly code = 'UPDATE_REFUSED';
  constructor(updateName: string, cause: Error) {
    super(`Update '${updateName}' was refused: ${cause.message}`, { cause });
  }
}

/** The timeout of an update passed. It stays with the run, which may still carry it out. */
export class UpdateTimeoutError extends Error {
  override readonly name: string = 'UpdateTimeoutError';
  readonly runId: string;
  /** Send the update again with this id to wait for the same answer. */
  readonly requestId: string;
  constructor(
    update: { readonly name: string; readonly runId: string; readonly requestId: string },
    timeoutMs: number,
    options?: ErrorOptions,
  ) {
    super(
      `Run ${update.runId} did not answer update '${update.name}' within ${timeoutMs} ms. It may still carry it out: ` +
        `send it again with the request id ${update.requestId} to wait for the answer.`,
      options,
    );
    this.runId = update.runId;
    this.requestId = update.requestId;
  }
}

const GENERATED_ID = /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[\da-f]{4}-[\da-f]{12}$/;

/** Names one id when the workflow id was generated. */
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

/** @param cause undefined: the error of the first that failed */
export function compensationError(
  count: number,
  failed: readonly FailedCompensation[],
  cause: unknown = failed[0]?.error,
): CompensationError {
  const message = `${failed.length} of ${count} compensations failed: ${failed.map(failedText).join(', ')}.`;
  return new CompensationError(message, { cause, failed });
}

const failedText = ({ stepId, error }: FailedCompensation) => `'${stepId}' (${nameOfError(error)})`;

function compensationText(compensation: CompensationReport | undefined): string {
  if (compensation === undefined) return '';
  const { compensated, failed } = compensation;
  const done = compensated.length === 0 ? '' : `; compensated: ${compensated.join(', ')}`;
  return failed.length === 0 ? done : `${done}; not compensated: ${failed.map(failedText).join(', ')}`;
}

/** Ends with one full stop, whatever the reason ends with. */
function reasonText(reason: string): string {
  if (reason === '') return '.';
  return /[.!?]$/.test(reason) ? `: ${reason}` : `: ${reason}.`;
}
