import { randomUUID } from 'node:crypto';
import { ErrorReason } from '@perdure/proto';
import { DataError } from '@perdure/store';
import type { Logger } from 'pino';
import { RpcError, StatusCode } from '../call/rpc-error.js';
import { knownFailure } from '../rpc/outcomes.js';

/** What a caller gets for whatever a handler threw; a fault of ours goes to the log under an id that the caller sees. */
export function failureOf(log: Logger, method: string, error: unknown): RpcError {
  const known = knownFailure(error);
  if (known !== undefined) {
    // Decoding has let the value pass, so somebody should know. Payloads are sent as bytes, which PostgreSQL does not quote.
    if (error instanceof DataError) log.warn({ event: 'value_refused', method, message: error.message });
    // An outage of the database is logged once, by the watch, not once per call.
    else log.debug({ event: 'call_refused', method, code: known.code, reason: ErrorReason[known.reason] });
    return known;
  }
  const id = randomUUID();
  log.error({ event: 'call_failed', method, id, err: error });
  return new RpcError(
    StatusCode.INTERNAL,
    ErrorReason.INTERNAL,
    `The server failed in ${method}. Its log says why, under id ${id}.`,
    { metadata: { id } },
  );
}
