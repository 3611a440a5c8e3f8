import type { Logger } from 'pino';
import type { RpcError } from '../rpc/rpc-error.js';

/** Silence for so long is told, in ms. */
export const TOLD_AFTER_MS = 1_000;

/** Tells, once for each outage, where the client looks for a server, so that nobody waits in front of a silent program. */
export class OutageNotice {
  readonly #log: Pick<Logger, 'warn'> | undefined;
  #isTold = false;

  /** @param log default: one line on stderr */
  constructor(log: Pick<Logger, 'warn'> | undefined) {
    this.#log = log;
  }

  tell(error: RpcError, patienceMs: number): void {
    if (this.#isTold) return;
    this.#isTold = true;
    const howLong = Number.isFinite(patienceMs) ? ` Trying for ${Math.round(patienceMs / 1000)} s.` : ' Trying on.';
    if (this.#log === undefined) process.stderr.write(`perdure: ${error.message}${howLong}\n`);
    else
      this.#log.warn({
        event: 'server_unavailable',
        status: error.status,
        reason: error.reason,
        message: error.message,
      });
  }

  onAnswer(): void {
    this.#isTold = false;
  }
}
