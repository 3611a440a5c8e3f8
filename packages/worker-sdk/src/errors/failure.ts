import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type Failure,
  type FailureOrigin,
  FailureOriginSchema,
  FailureReason,
  FailureSchema,
  timestampOf,
} from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { shown } from '../text.js';
import { type ErrorOrigin, errorFacts } from './error-facts.js';
import { ChildFailedError, TooManyLostLeasesError } from './errors.js';
import { isNonRetryable } from './non-retryable.js';
import { CLASS_OF_REASON } from './recorded-error.js';
import { sealed } from './sealed-failure.js';
import { authorsStack } from './stack.js';

export { markNonRetryable } from './non-retryable.js';
export { errorOf } from './recorded-error.js';

const MAX_TEXT_BYTES = 64 * 1024;
const MAX_NAME_BYTES = 255;
const MAX_CAUSES = 16;
/** Errors of AggregateErrors that are kept, in all. */
const MAX_ERRORS = 16;
/** For an error with everything below it, so that one call carries it. */
const MAX_BYTES = 512 * 1024;
const MAX_DETAILS_BYTES = 256 * 1024;

/**
 * The error as it is recorded, without the frames of the SDK. Never throws, whatever was thrown: details that cannot be
 * encoded are left out, texts that are too long are cut, and so are causes when there are too many.
 *
 * @param here where it is recorded; kept as its origin, unless another step or run has passed it on
 */
export function failureOf(codec: Codec, thrown: unknown, here?: ErrorOrigin): Failure {
  const failure = new FailureWriter(codec).write(thrown, 0);
  const origin = originAmong(failure) ?? (here === undefined ? undefined : create(FailureOriginSchema, here));
  if (origin !== undefined) failure.origin = origin;
  return sealed(codec, failure);
}

/** Where an error began that another step or run has passed on, as it is or as a cause. */
function originAmong({ origin, cause }: Failure): FailureOrigin | undefined {
  return origin ?? (cause === undefined ? undefined : originAmong(cause));
}

class FailureWriter {
  readonly #codec: Codec;
  #leftBytes = MAX_BYTES;
  #leftErrors = MAX_ERRORS;

  constructor(codec: Codec) {
    this.#codec = codec;
  }

  write(thrown: unknown, depth: number): Failure {
    const isError = isErrorObject(thrown);
    const code = isError ? read(thrown, 'code') : undefined;
    const details = isError ? this.#details(read(thrown, 'details')) : undefined;
    const init: MessageInitShape<typeof FailureSchema> = {
      type: cut(isError ? text(read(thrown, 'name')) || 'Error' : 'Error', MAX_NAME_BYTES),
      message: this.#text(isError ? text(read(thrown, 'message')) : nonErrorMessage(thrown)),
      stack: this.#text(isError ? authorsStack(text(read(thrown, 'stack'))) : ''),
      code: typeof code === 'string' || typeof code === 'number' ? cut(String(code), MAX_NAME_BYTES) : '',
      reason: (isError && CLASS_OF_REASON.find(([, type]) => thrown instanceof type)?.[0]) || FailureReason.APPLICATION,
      nonRetryable: isError && isNonRetryable(thrown),
      ...(details === undefined ? {} : { details }),
      ...(isError ? passedOn(thrown) : {}),
    };
    if (!isError || depth >= MAX_CAUSES) return create(FailureSchema, init);
    const cause = read(thrown, 'cause');
    if (cause !== undefined) init.cause = this.write(cause, depth + 1);
    const errors = thrown instanceof AggregateError ? read(thrown, 'errors') : undefined;
    if (Array.isArray(errors)) {
      const kept = errors.slice(0, this.#leftErrors);
      this.#leftErrors -= kept.length;
      init.errors = kept.map((inner) => this.write(inner, depth + 1));
    }
    return create(FailureSchema, init);
  }

  #text(value: string): string {
    const kept = cut(value, Math.min(MAX_TEXT_BYTES, this.#leftBytes));
    this.#leftBytes -= Buffer.byteLength(kept);
    return kept;
  }

  #details(details: unknown): Failure['details'] {
    if (details === undefined) return undefined;
    try {
      const encoded = this.#codec.encode(details);
      if (encoded.data.byteLength > Math.min(MAX_DETAILS_BYTES, this.#leftBytes)) return undefined;
      this.#leftBytes -= encoded.data.byteLength;
      return create(FailureSchema, { details: encoded }).details;
    } catch {
      // An error whose details cannot be encoded must still be recorded.
      return undefined;
    }
  }
}

/** What is known of an error that was recorded before. */
function passedOn(thrown: Error): Pick<MessageInitShape<typeof FailureSchema>, 'child' | 'origin' | 'lostLeases'> {
  const origin = errorFacts(thrown)?.origin;
  return {
    ...(origin === undefined ? {} : { origin: { ...origin } }),
    ...(thrown instanceof ChildFailedError && thrown.runId !== ''
      ? { child: { runId: thrown.runId, workflowId: thrown.workflowId, workflowType: thrown.workflowType } }
      : {}),
    ...(thrown instanceof TooManyLostLeasesError
      ? {
          lostLeases: thrown.lostLeases.map(({ lastSeenAt, lostAt, openSteps, ...lease }) => ({
            ...lease,
            openSteps: [...openSteps],
            lastSeenAt: timestampOf(lastSeenAt),
            lostAt: timestampOf(lostAt),
          })),
        }
      : {}),
  };
}

function isErrorObject(thrown: unknown): thrown is Error {
  try {
    return thrown instanceof Error;
  } catch {
    // A proxy may refuse even that.
    return false;
  }
}

/** A property of somebody else's object, whose getter may throw. */
function read(error: Error, key: string): unknown {
  try {
    return (error as unknown as Record<string, unknown>)[key];
  } catch (problem) {
    return key === 'message' ? `(Its message cannot be read: ${shown(problem)})` : undefined;
  }
}

function text(value: unknown): string {
  if (typeof value === 'string') return value;
  return value === undefined ? '' : shown(value);
}

function nonErrorMessage(thrown: unknown): string {
  return typeof thrown === 'string' ? thrown : `A value that is no Error was thrown: ${shown(thrown)}`;
}

/** Cuts to at most `maxBytes` of UTF-8, not inside a character. */
function cut(value: string, maxBytes: number): string {
  if (Buffer.byteLength(value) <= maxBytes) return value;
  const bytes = Buffer.from(value).subarray(0, Math.max(0, maxBytes - 3));
  return `${bytes.toString('utf8').replace(/\ufffd+$/, '')}…`;
}
