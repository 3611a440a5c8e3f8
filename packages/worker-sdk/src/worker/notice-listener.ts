import { type AwaitNoticesResponse, durationOf } from '@perdure/proto';
import type { Logger } from 'pino';
import { type Clock, pause } from '../clock.js';
import { longCall } from '../rpc/long-call.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { WorkerTransport } from '../rpc/worker-transport.js';

export interface NoticeListenerOptions {
  readonly transport: WorkerTransport;
  readonly clock: Clock;
  readonly namespace: string;
  readonly workerId: string;
  readonly log: Logger;
  readonly onNotices: (notices: AwaitNoticesResponse) => void;
}

const WAIT_MS = 20_000;
const BACKOFF_MS = 3_000;

/** Receives notices - cancels, terminations, drains - without waiting for a heartbeat. Heartbeats bring what it misses. */
export class NoticeListener {
  readonly #options: NoticeListenerOptions;
  readonly #abort = new AbortController();

  constructor(options: NoticeListenerOptions) {
    this.#options = options;
  }

  /** Listens until it is stopped. */
  async listen(): Promise<void> {
    const { transport, clock, namespace, workerId, log, onNotices } = this.#options;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        const request = { namespace, workerId, wait: durationOf(WAIT_MS) };
        onNotices(await transport.awaitNotices(request, longCall(WAIT_MS, signal)));
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof RpcError)) log.error({ event: 'listen_failed', err: error });
        else log.debug({ event: 'listen_failed', status: error.status, message: error.message });
        await pause(clock, BACKOFF_MS * (0.5 + Math.random() / 2), signal);
      }
    }
  }

  stop(): void {
    this.#abort.abort();
  }
}
