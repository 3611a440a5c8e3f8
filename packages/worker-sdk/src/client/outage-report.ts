import type { Logger } from 'pino';
import type { RpcError } from '../rpc/rpc-error.js';

/** An outage is reported once it has lasted this long, in ms. */
export const REPORT_AFTER_MS = 1_000;

/** Reports each outage once, with the address that does not answer, so that no program waits in silence. */
export class OutageReport {
  readonly #log: Pick<Logger, 'warn'> | undefined;
  #isReported = false;

  /** @param log default: one line on stderr */
  constructor(log: Pick<Logger, 'warn'> | undefined) {
    this.#log = log;
  }

  report(error: RpcError, giveUpAfterMs: number): void {
    if (this.#isReported) return;
    this.#isReported = true;
    const howLong = Number.isFinite(giveUpAfterMs)
      ? ` Retrying for ${Math.round(giveUpAfterMs / 1000)} s.`
      : ' Retrying until it answers.';
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
    this.#isReported = false;
  }
}
