import { fromBinary } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import * as grpc from '@grpc/grpc-js';
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema, type Status, StatusSchema } from '@perdure/proto';

/** gRPC's name of a status, for example `NOT_FOUND`. */
export type StatusName = keyof typeof grpc.status;

/** A call that the server refused, or that did not reach one. */
export class RpcError extends Error {
  override readonly name: string = 'RpcError';
  /** gRPC's name of the status, for example `NOT_FOUND`. */
  readonly status: StatusName;
  /** Perdure's own reason, for example `LEASE_LOST`; empty when the error is not from a Perdure server. */
  readonly reason: string;
  /** What the reason is about, for example `run_id`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Fields that break a rule. */
  readonly violations: readonly { readonly field: string; readonly description: string }[];
  /** When to try again, in ms. */
  readonly retryAfterMs: number | undefined;

  constructor(
    status: StatusName,
    message: string,
    details: Partial<Pick<RpcError, 'reason' | 'metadata' | 'violations' | 'retryAfterMs'>> = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.status = status;
    this.reason = details.reason ?? '';
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
    this.retryAfterMs = details.retryAfterMs;
  }

  /** The same call may succeed a moment later. */
  get isTransient(): boolean {
    return this.status === 'UNAVAILABLE' || this.status === 'RESOURCE_EXHAUSTED' || this.status === 'DEADLINE_EXCEEDED';
  }
}

/** @param address of the server, for the message */
export function rpcErrorOf(error: grpc.ServiceError, method: string, address: string): RpcError {
  const status = (grpc.status[error.code] ?? 'UNKNOWN') as StatusName;
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const details = detailsOf(bytes instanceof Uint8Array ? fromBinary(StatusSchema, bytes) : undefined);
  if (details.reason !== '') return new RpcError(status, error.details, details, { cause: error });
  const hint = status === 'UNAVAILABLE' ? ' Check the address and that a server is running there.' : '';
  return new RpcError(status, `${method} at ${address}: ${status}: ${error.details}.${hint}`, details, {
    cause: error,
  });
}

type Details = Pick<RpcError, 'reason' | 'metadata' | 'violations' | 'retryAfterMs'>;

/** The error that an answer of a session carries. */
export function rpcErrorOfStatus(status: Status): RpcError {
  return new RpcError((grpc.status[status.code] ?? 'UNKNOWN') as StatusName, status.message, detailsOf(status));
}

function detailsOf(status: Status | undefined): Details {
  const details: { -readonly [K in keyof Details]: Details[K] } = {
    reason: '',
    metadata: {},
    violations: [],
    retryAfterMs: undefined,
  };
  for (const any of status?.details ?? []) {
    const info = anyUnpack(any, ErrorInfoSchema);
    if (info !== undefined) {
      details.reason = info.reason;
      details.metadata = info.metadata;
    }
    const badRequest = anyUnpack(any, BadRequestSchema);
    if (badRequest !== undefined) {
      details.violations = badRequest.fieldViolations.map(({ field, description }) => ({ field, description }));
    }
    const delay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
    if (delay !== undefined) details.retryAfterMs = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
  }
  return details;
}
