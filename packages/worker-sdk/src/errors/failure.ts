/** Errors ↔ `Failure` messages. */
import { create } from '@bufbuild/protobuf';
import { type Failure, FailureReason, FailureSchema } from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import { builtInError } from './built-in.js';
import {
  CancelledError,
  HeartbeatTimeoutError,
  InvalidInputError,
  NonDeterminismError,
  PayloadTooLargeError,
  StepTimeoutError,
  TerminalError,
  WorkerLostError,
} from './errors.js';

const MAX_TEXT_BYTES = 64 * 1024;
const MAX_NAME_BYTES = 255;
const MAX_CAUSES = 16;
const MAX_DETAILS_BYTES = 256 * 1024;

/** Perdure's own errors and the reasons that stand for them. */
const BY_REASON: readonly (readonly [FailureReason, new (message: string, options?: ErrorOptions) => Error])[] = [
  [FailureReason.STEP_TIMEOUT, StepTimeoutError],
  [FailureReason.HEARTBEAT_TIMEOUT, HeartbeatTimeoutError],
  [FailureReason.WORKER_LOST, WorkerLostError],
  [FailureReason.NON_DETERMINISM, NonDeterminismError],
  [FailureReason.CANCELLED, CancelledError],
  [FailureReason.PAYLOAD_TOO_LARGE, PayloadTooLargeError],
  [FailureReason.INVALID_INPUT, InvalidInputError],
];

/** The error as it is recorded. Never throws: details that cannot be encoded are left out, texts that are too long are cut. */
export function failureOf(codec: Codec, thrown: unknown, depth = 0): Failure {
  const error = thrown instanceof Error ? thrown : nonError(thrown);
  const { code, details } = error as { code?: unknown; details?: unknown };
  const failure = create(FailureSchema, {
    type: cut(String(error.name || 'Error'), MAX_NAME_BYTES),
    message: cut(String(error.message), MAX_TEXT_BYTES),
    stack: cut(typeof error.stack === 'string' ? error.stack : '', MAX_TEXT_BYTES),
    code: typeof code === 'string' || typeof code === 'number' ? cut(String(code), MAX_NAME_BYTES) : '',
    reason: BY_REASON.find(([, type]) => error instanceof type)?.[0] ?? FailureReason.APPLICATION,
    nonRetryable: isNonRetryable(error),
  });
  const encoded = details === undefined ? undefined : encodeDetails(codec, details);
  if (encoded !== undefined) failure.details = encoded;
  const cause = causeOf(error);
  if (cause !== undefined && depth < MAX_CAUSES) failure.cause = failureOf(codec, cause, depth + 1);
  return failure;
}

/** The error that a recorded failure stands for: Perdure's and JavaScript's own classes, others by name. */
export function errorOf(codec: Codec, failure: Failure): Error {
  const options = failure.cause === undefined ? undefined : { cause: errorOf(codec, failure.cause) };
  const known = BY_REASON.find(([reason]) => reason === failure.reason)?.[1];
  let error: Error;
  if (known !== undefined) error = new known(failure.message, options);
  else if (failure.type === 'TerminalError') error = new TerminalError(failure.message, options);
  else error = builtInError(failure.type, failure.message, options);
  if (failure.stack !== '') {
    Object.defineProperty(error, 'stack', { value: failure.stack, configurable: true, writable: true });
  }
  if (failure.code !== '') Object.assign(error, { code: failure.code });
  if (failure.details !== undefined) Object.assign(error, { details: decodeDetails(codec, failure) });
  if (failure.nonRetryable && !(error instanceof TerminalError)) {
    Object.defineProperty(error, NON_RETRYABLE, { value: true });
  }
  return error;
}

const NON_RETRYABLE = Symbol.for('perdure.nonRetryable');

/** No policy retries it: said by the author, or another try could only end the same way. */
export function isNonRetryable(error: unknown): boolean {
  return (
    error instanceof TerminalError ||
    error instanceof CancelledError ||
    error instanceof PayloadTooLargeError ||
    error instanceof InvalidInputError ||
    error instanceof NonDeterminismError ||
    (error instanceof Error && NON_RETRYABLE in error)
  );
}

/** Marks an error of ours that another try could only repeat. */
export function markNonRetryable(error: Error): Error {
  Object.defineProperty(error, NON_RETRYABLE, { value: true });
  return error;
}

function nonError(thrown: unknown): Error {
  const text = typeof thrown === 'string' ? thrown : `A value that is no Error was thrown: ${shown(thrown)}`;
  return Object.assign(new Error(text), { stack: '' });
}

function shown(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // Cyclic or a bigint: its kind has to do, and the failure path must not fail.
    return Object.prototype.toString.call(value);
  }
}

function causeOf(error: Error): unknown {
  if (error.cause !== undefined) return error.cause;
  return error instanceof AggregateError ? error.errors[0] : undefined;
}

function encodeDetails(codec: Codec, details: unknown) {
  try {
    const encoded = codec.encode(details);
    return encoded.data.byteLength <= MAX_DETAILS_BYTES
      ? create(FailureSchema, { details: encoded }).details
      : undefined;
  } catch {
    // Details are a help for people; an error whose details cannot be encoded must still be recorded.
    return undefined;
  }
}

function decodeDetails(codec: Codec, failure: Failure): unknown {
  try {
    return decodeValue(codec, failure.details);
  } catch (error) {
    return `The details cannot be decoded: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Cuts to so many UTF-8 bytes, not inside a character. */
function cut(text: string, maxBytes: number): string {
  if (Buffer.byteLength(text) <= maxBytes) return text;
  const bytes = Buffer.from(text).subarray(0, maxBytes - 3);
  return `${bytes.toString('utf8').replace(/\ufffd+$/, '')}…`;
}
