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
  /** Rule, limit and what came. */
  readonly description: string;
}

export interface RpcErrorDetails {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  /** When a retry makes sense, in ms. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

/** The one way for a call to fail: a status, a reason of the closed list, a sentence, and details. */
export class RpcError extends Error {
  override readonly name = 'RpcError';
  readonly code: StatusCode;
  readonly reason: ErrorReason;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(code: StatusCode, reason: ErrorReason, message: string, details: RpcErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.code = code;
    this.reason = reason;
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** @param violations what is wrong, at least one */
export function invalidArgument(violations: readonly FieldViolation[]): RpcError {
  const message = violations.map(({ field, description }) => `${field}: ${description}`).join(' ');
  return new RpcError(StatusCode.INVALID_ARGUMENT, ErrorReason.INVALID_FIELD, message, { violations });
}

/** @param what what there is too much of */
export function overloaded(what: string): RpcError {
  return new RpcError(
    StatusCode.RESOURCE_EXHAUSTED,
    ErrorReason.OVERLOADED,
    `The server has too much to do: ${what}. Nothing was done; try again in a moment.`,
    { retryAfterMs: 250 },
  );
}

export function shuttingDown(): RpcError {
  return new RpcError(
    StatusCode.UNAVAILABLE,
    ErrorReason.SHUTTING_DOWN,
    'The server is going down. Call again; another server or its successor answers.',
    { retryAfterMs: 250 },
  );
}
