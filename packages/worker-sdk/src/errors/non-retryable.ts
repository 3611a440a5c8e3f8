import {
  CancelledError,
  InvalidInputError,
  NonDeterminismError,
  PayloadTooLargeError,
  RetryBudgetError,
  TerminalError,
} from './errors.js';

const NON_RETRYABLE = Symbol.for('perdure.nonRetryable');

/** No policy retries it: the author says so, or another attempt could only fail the same way. */
export function isNonRetryable(error: unknown): boolean {
  return (
    error instanceof TerminalError ||
    error instanceof CancelledError ||
    error instanceof PayloadTooLargeError ||
    error instanceof InvalidInputError ||
    error instanceof NonDeterminismError ||
    error instanceof RetryBudgetError ||
    (error instanceof Error && NON_RETRYABLE in error)
  );
}

/** Marks an error that another attempt could only repeat. */
export function markNonRetryable(error: Error): Error {
  Object.defineProperty(error, NON_RETRYABLE, { value: true });
  return error;
}
