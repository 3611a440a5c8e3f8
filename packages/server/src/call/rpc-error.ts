import { ErrorReason } from '@perdure/proto';

/** The gRPC status codes that Perdure answers with; numbers as in google.rpc.Code, which Connect shares. */
export const StatusCode = {
  INVALID_ARGUMENT: 3,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  INTERNAL: 13,
  UNAVAILABLE: 14,
} as const;
export type StatusCode = (typeof StatusCode)[keyof typeof StatusCode];

/** One broken rule of a request. */
export interface FieldViolation {
  /** Path in the request, for example `runs[3].workflow_id`. */
  readonly field: string;
  /** The rule, its limit and the value that came. */
  readonly description: string;
}

export interface RpcErrorDetails {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  /** When a retry makes sense, in ms. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

/** Longest message, in characters: unary calls carry it twice in their trailers, which clients limit to about 16 KiB. */
const MAX_MESSAGE_LENGTH = 2_000;
/** Most bytes of violations that an error lists; the rest are counted. */
const MAX_VIOLATION_BYTES = 4_096;
const MAX_VIOLATIONS_MESSAGE_BYTES = 1_024;

/**
 * The only error of a call: a status, a reason of the closed list, a sentence, and details.
 *
 * It has no stack, because it is about the request of the caller, and refusals must be cheap under overload.
 */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: StatusCode;
  readonly reason: ErrorReason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(code: StatusCode, reason: ErrorReason, message: string, details: RpcErrorDetails = {}) {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(message.length > MAX_MESSAGE_LENGTH ? `${message.slice(0, MAX_MESSAGE_LENGTH)}…` : message, {
      cause: details.cause,
    });
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
    this.reason = reason;
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
    this.retryAfterMs = details.retryAfterMs;
  }
}

/**
 * Lists violations up to a bounded size, and counts the rest.
 *
 * @param violations at least one
 * @param unlisted how many more there are
 */
export function invalidArgument(violations: readonly FieldViolation[], unlisted = 0): RpcError {
  const listed = withinBytes(violations, MAX_VIOLATION_BYTES);
  const named = withinBytes(listed, MAX_VIOLATIONS_MESSAGE_BYTES);
  const total = violations.length + unlisted;
  const sentences = named.map(({ field, description }) => `${field}: ${description}`);
  if (named.length < total) sentences.push(`${total - named.length} more violations are not listed.`);
  return new RpcError(StatusCode.INVALID_ARGUMENT, ErrorReason.INVALID_FIELD, sentences.join(' '), {
    violations: listed,
    ...(listed.length < total ? { metadata: { violations: String(total) } } : {}),
  });
}

/** Always has the first one. */
function withinBytes(violations: readonly FieldViolation[], maxBytes: number): readonly FieldViolation[] {
  let bytes = 0;
  const end = violations.findIndex(({ field, description }) => {
    bytes += Buffer.byteLength(field) + Buffer.byteLength(description);
    return bytes > maxBytes;
  });
  return end < 0 ? violations : violations.slice(0, Math.max(1, end));
}

/** Delay after which a refused call may be repeated, in ms. */
const OVERLOADED_RETRY_MS = 250;

/** @param what completes "The server is overloaded: …" */
export function overloaded(what: string): RpcError {
  return new RpcError(
    StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.OVERLOADED,
    `The server is overloaded: ${what}. Nothing was changed; retry after ${OVERLOADED_RETRY_MS} ms.`,
    { retryAfterMs: OVERLOADED_RETRY_MS },
  );
}

export function shuttingDown(): RpcError {
  return new RpcError(
    StatusCode.UNAVAILABLE,
    ErrorReason.SHUTTING_DOWN,
    'The server is stopping. Repeat the call; another server or the next process answers.',
    { retryAfterMs: 250 },
  );
}
