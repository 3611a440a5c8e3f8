import { fromBinary } from '@bufbuild/protobuf';
import { anyUnpack } from '@bufbuild/protobuf/wkt';
import * as grpc from '@grpc/grpc-js';
import {
  BadRequestSchema,
  ErrorInfoSchema,
  ErrorReason,
  msOf,
  RetryInfoSchema,
  type Status,
  StatusSchema,
} from '@perdure/proto';

/** gRPC's name of a status, for example `NOT_FOUND`. */
export type StatusName = keyof typeof grpc.status;

/** Why a server refused a call. */
export type RpcErrorReason = Exclude<keyof typeof ErrorReason, 'UNSPECIFIED'>;

/** A call that a server refused, or that reached none. */
export class RpcError extends Error {
  override readonly name: string = 'RpcError';
  /** gRPC's name of the status, for example `NOT_FOUND`. */
  readonly status: StatusName;
  /** Perdure's own reason, for example `LEASE_LOST`; empty when the error is not from a Perdure server that this SDK knows. */
  readonly reason: RpcErrorReason | '';
  /** Facts of the reason by name, for example `run_id`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields of the request that are invalid, all of them. */
  readonly violations: readonly { readonly field: string; readonly description: string }[];
  /** Wait before a repeat, in ms, as the server recommends; undefined when it does not. */
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

  /** The same call may succeed later. A message that is too large is RESOURCE_EXHAUSTED too, and never does. */
  get isTransient(): boolean {
    return this.status === 'UNAVAILABLE' || this.status === 'DEADLINE_EXCEEDED' || this.reason === 'OVERLOADED';
  }
}

/** The error of a call that reached no server. */
export function unreachable(address: string, why: string): RpcError {
  return new RpcError(
    'UNAVAILABLE',
    `No Perdure server answers at ${address} (${why}). Start one with \`perdure dev\`, or set the address or PERDURE_ADDRESS.`,
  );
}

/** What gRPC says of an error, without technical noise. */
export function grpcReason({ details }: grpc.ServiceError): string {
  return /Last error: (?:Error: )?(.*?)\. Resolution note:/s.exec(details)?.[1] ?? details;
}

/** @param address of the server, for the message */
export function rpcErrorOf(error: grpc.ServiceError, method: string, address: string): RpcError {
  const status = (grpc.status[error.code] ?? 'UNKNOWN') as StatusName;
  const [bytes] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const details = detailsOf(bytes instanceof Uint8Array ? fromBinary(StatusSchema, bytes) : undefined);
  if (details.reason !== '') return new RpcError(status, error.details, details);
  if (status === 'UNAVAILABLE') return unreachable(address, grpcReason(error));
  return new RpcError(status, `${method} at ${address}: ${status}: ${error.details}.`, details);
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
      details.reason = knownReason(info.reason);
      details.metadata = info.metadata;
    }
    const badRequest = anyUnpack(any, BadRequestSchema);
    if (badRequest !== undefined) {
      details.violations = badRequest.fieldViolations.map(({ field, description }) => ({ field, description }));
    }
    const delay = anyUnpack(any, RetryInfoSchema)?.retryDelay;
    if (delay !== undefined) details.retryAfterMs = msOf(delay);
  }
  return details;
}

/** @returns empty for one that this version does not know */
export function knownReason(reason: string): RpcErrorReason | '' {
  const isKnown = typeof ErrorReason[reason as RpcErrorReason] === 'number' && reason !== 'UNSPECIFIED';
  return isKnown ? (reason as RpcErrorReason) : '';
}
