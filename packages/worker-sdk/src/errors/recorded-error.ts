import { dateOf, type Failure, FailureReason, type LostLease as LostLeaseMessage } from '@perdure/proto';
import { builtInError } from '../codec/built-in-errors.js';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import { shown } from '../text.js';
import { addFacts, type ErrorOrigin } from './error-facts.js';
import {
  CancelledError,
  ChainTimeoutError,
  ChildCancelledError,
  ChildFailedError,
  ChildNotStartedError,
  ChildTerminatedError,
  CompensationError,
  ExecutionTimeoutError,
  HeartbeatTimeoutError,
  InvalidInputError,
  NonDeterminismError,
  PayloadTooLargeError,
  RetryableError,
  RetryBudgetError,
  RunTimeoutError,
  StartTimeoutError,
  StepTimeoutError,
  TerminalError,
  TooManyLostLeasesError,
  WorkerLostError,
} from './errors.js';
import type { LostLease } from './lost-lease.js';
import { markNonRetryable } from './non-retryable.js';
import { unsealed } from './sealed-failure.js';

type ErrorClass = new (message: string, options?: ErrorOptions) => Error;

/** Perdure's own errors and the reasons that stand for them. */
export const CLASS_OF_REASON: readonly (readonly [FailureReason, ErrorClass])[] = [
  [FailureReason.STEP_TIMEOUT, StepTimeoutError],
  [FailureReason.HEARTBEAT_TIMEOUT, HeartbeatTimeoutError],
  [FailureReason.START_TIMEOUT, StartTimeoutError],
  [FailureReason.EXECUTION_TIMEOUT, ExecutionTimeoutError],
  [FailureReason.RUN_TIMEOUT, RunTimeoutError],
  [FailureReason.CHAIN_TIMEOUT, ChainTimeoutError],
  [FailureReason.RETRY_BUDGET, RetryBudgetError],
  [FailureReason.TOO_MANY_LOST_LEASES, TooManyLostLeasesError],
  [FailureReason.WORKER_LOST, WorkerLostError],
  [FailureReason.NON_DETERMINISM, NonDeterminismError],
  [FailureReason.CANCELLED, CancelledError],
  [FailureReason.PAYLOAD_TOO_LARGE, PayloadTooLargeError],
  [FailureReason.INVALID_INPUT, InvalidInputError],
  [FailureReason.CHILD_CANCELLED, ChildCancelledError],
  [FailureReason.CHILD_TERMINATED, ChildTerminatedError],
  [FailureReason.CHILD_NOT_STARTED, ChildNotStartedError],
  // After its subclasses.
  [FailureReason.CHILD_FAILED, ChildFailedError],
];
/** Errors that authors throw, by name. */
const CLASS_OF_TYPE: Readonly<Record<string, ErrorClass>> = { TerminalError, RetryableError, CompensationError };

/**
 * The error that a recorded failure stands for: Perdure's and JavaScript's own classes, others by name.
 *
 * @param here where it is recorded: its origin, unless it says where it began
 */
export function errorOf(codec: Codec, recorded: Failure, here?: ErrorOrigin): Error {
  const failure = unsealed(codec, recorded);
  const { child } = failure;
  const below =
    child === undefined || child.runId === ''
      ? here
      : { ...child, stepId: failure.cause?.stepId ?? '', attempt: 0, maxAttempts: 0 };
  const options = failure.cause === undefined ? undefined : { cause: errorOf(codec, failure.cause, below) };
  const errors = failure.errors.map((inner) => errorOf(codec, inner, here));
  const error = instanceOf(failure, options, errors);
  if (failure.stack !== '') {
    Object.defineProperty(error, 'stack', { value: failure.stack, configurable: true, writable: true });
  }
  if (failure.child !== undefined && error instanceof ChildFailedError) {
    const { runId, workflowId, workflowType } = failure.child;
    Object.assign(error, { runId, workflowId, workflowType });
  }
  if (failure.lostLeases.length > 0 && error instanceof TooManyLostLeasesError)
    Object.assign(error, { lostLeases: failure.lostLeases.map(lostLeaseOf) });
  addFacts(error, failure, here);
  if (failure.code !== '') Object.assign(error, { code: failure.code });
  if (failure.details !== undefined) Object.assign(error, { details: decodeDetails(codec, failure) });
  if (failure.nonRetryable && !(error instanceof TerminalError)) markNonRetryable(error);
  return error;
}

function lostLeaseOf({
  leaseToken,
  workerId,
  workerIdentity,
  build,
  lastSeenAt,
  lostAt,
  openSteps,
  counted,
}: LostLeaseMessage): LostLease {
  return {
    leaseToken,
    workerId,
    workerIdentity,
    build,
    lastSeenAt: dateOf(lastSeenAt) ?? new Date(0),
    lostAt: dateOf(lostAt) ?? new Date(0),
    openSteps,
    counted,
  };
}

function instanceOf(
  { reason, type, message }: Failure,
  options: ErrorOptions | undefined,
  errors: readonly Error[],
): Error {
  const known =
    CLASS_OF_REASON.find(([candidate]) => candidate === reason)?.[1] ??
    (Object.hasOwn(CLASS_OF_TYPE, type) ? CLASS_OF_TYPE[type] : undefined);
  if (known !== undefined) return new known(message, options);
  return builtInError(type, message, options, errors);
}

function decodeDetails(codec: Codec, failure: Failure): unknown {
  try {
    return decodeValue(codec, failure.details);
  } catch (error) {
    return `The details cannot be decoded: ${error instanceof Error ? error.message : shown(error)}`;
  }
}
