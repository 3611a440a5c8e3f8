import type { AdminService } from '@perdure/proto';
import type { EncodedPayload } from '../codec/codec.js';
import { PayloadTooLargeError } from '../errors/errors.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { ServiceClient } from '../rpc/service-client.js';
import type { OutageReport } from './outage-report.js';
import { type RetryUntilAnsweredOptions, retryUntilAnswered } from './retry-until-answered.js';

/** Smaller payloads are sent unchecked; a server with a limit that low refuses them itself. */
const UNCHECKED_BYTES = 256 * 1024;

/** The largest payload that the server accepts, read when it first matters. */
export class PayloadLimit {
  readonly #admin: ServiceClient<typeof AdminService>;
  readonly #outage: OutageReport;
  #maxBytes: number | undefined;

  constructor(admin: ServiceClient<typeof AdminService>, outage: OutageReport) {
    this.#admin = admin;
    this.#outage = outage;
  }

  /** @throws {PayloadTooLargeError} before anything is sent */
  async check(payload: EncodedPayload | undefined, what: string, retries: RetryUntilAnsweredOptions): Promise<void> {
    const bytes = payload?.data.byteLength ?? 0;
    if (bytes <= UNCHECKED_BYTES) return;
    // The limit may have been raised since it was read.
    if (this.#maxBytes === undefined || bytes > this.#maxBytes) this.#maxBytes = await this.#read(retries);
    if (bytes > this.#maxBytes) throw tooLarge(what, bytes, this.#maxBytes);
  }

  async #read(retries: RetryUntilAnsweredOptions): Promise<number> {
    const info = await retryUntilAnswered(this.#outage, (options) => this.#admin.getServerInfo({}, options), retries);
    return info.maxPayloadBytes;
  }
}

/** The error of a start whose input the server found too large; any other error as it is. */
export function inputRefusal(error: unknown, what: string, bytes: number): unknown {
  if (!(error instanceof RpcError)) return error;
  // Size is the only rule for a payload's bytes; a message that gRPC itself found too large has no Perdure reason.
  const isTooLarge =
    error.violations.some(({ field }) => /(^|\.)input\.data$/.test(field)) ||
    (error.status === 'RESOURCE_EXHAUSTED' && error.reason === '');
  return isTooLarge ? tooLarge(what, bytes, undefined, { cause: error }) : error;
}

function tooLarge(what: string, bytes: number, maxBytes: number | undefined, options?: ErrorOptions) {
  const accepted = maxBytes === undefined ? 'which is more than the server accepts' : `the server accepts ${maxBytes}`;
  return new PayloadTooLargeError(
    `${what} has ${bytes} bytes; ${accepted}. Keep it elsewhere and pass a reference.`,
    options,
  );
}
