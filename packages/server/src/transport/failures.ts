import { randomUUID } from 'node:crypto';
import { ErrorReason } from '@perdure/proto';
import { DataError } from '@perdure/store';
import type { Logger } from 'pino';
import { RpcError, StatusCode } from '../call/rpc-error.js';
import { knownFailure } from '../rpc/outcomes.js';

/** The error that a caller gets for what a handler threw; a bug in Perdure is logged under an id that the caller sees. */
export function failureOf(log: Logger, method: string, error: unknown): RpcError {
  const known = knownFailure(error);
  if (known !== undefined) {
    // Decoding accepted the value, so an operator should know. Payloads are sent as bytes, which PostgreSQL does not quote.
    if (error instanceof DataError) log.warn({ event: 'value_refused', method, message: error.message });
    // The watch logs an outage of the database once; calls do not.
    else log.debug({ event: 'call_refused', method, code: known.code, reason: ErrorReason[known.reason] });
    return known;
  }
  const id = randomUUID();
  log.error({ event: 'call_failed', method, id, err: error });
  return new RpcError(
    StatusCode.INTERNAL,
    ErrorReason.INTERNAL,
    `A bug in Perdure: the server failed in ${method}. Its log has the details under id ${id}; please report them.`,
    { metadata: { id } },
  );
}
