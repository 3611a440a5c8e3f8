import { setTimeout as delay } from 'node:timers/promises';
import { answerWithin } from './answer-within.js';
import { openDriver } from './driver.js';

export interface ListenerOptions {
  readonly url: string;
  readonly channel: string;
  readonly applicationName: string;
  readonly onPayload: (payload: string) => void;
  /** Called each time listening begins: notifications may have been missed before, so read now. */
  readonly onListening: () => void;
  /** Called once when the connection broke or cannot be opened; the listener keeps trying. */
  readonly onInterrupted?: (error: Error) => void;
  /** How often the connection is checked, in ms; default 10,000. */
  readonly keepAliveMs?: number;
}

export interface Listener {
  /** Ends the connection; no callback follows. */
  stop(): Promise<void>;
}

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;

/**
 * Listens on a channel for as long as the process lives, over its own connection, checked by a keep-alive statement. A half-open
 * connection (its peer vanished without a FIN) is found within two keep-alives, and every break leads to a new LISTEN and a new
 * read. The driver's own `listen` stops forever when the first reconnect fails.
 */
export function listenForever(options: ListenerOptions): Listener {
  const loop = new ListenLoop(options);
  const done = loop.run();
  return {
    async stop() {
      loop.stop();
      await done;
    },
  };
}

class ListenLoop {
  readonly #options: ListenerOptions;
  readonly #keepAliveMs: number;
  readonly #stopping = new AbortController();
  #interrupted = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#keepAliveMs = options.keepAliveMs ?? 10_000;
  }

  stop(): void {
    this.#stopping.abort();
  }

  async run(): Promise<void> {
    let retryMs = RETRY_MIN_MS;
    while (!this.#stopping.signal.aborted) {
      const beganAtMs = performance.now();
      const error = await this.#listenUntilBroken().catch((cause: unknown) => cause);
      if (this.#stopping.signal.aborted) return;
      if (!this.#interrupted) {
        this.#interrupted = true;
        this.#options.onInterrupted?.(error instanceof Error ? error : new Error(String(error)));
      }
      // A connection that breaks at once must not be opened again without a pause.
      if (performance.now() - beganAtMs > RETRY_MAX_MS) retryMs = RETRY_MIN_MS;
      await this.#pause(retryMs * (0.5 + Math.random()));
      retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
    }
  }

  /** One connection, from its beginning to its end, which is the end of this call. */
  async #listenUntilBroken(): Promise<Error> {
    const { url, channel, applicationName, onPayload, onListening } = this.#options;
    const { signal } = this.#stopping;
    const over = new AbortController();
    const sql = openDriver(url, {
      maxConnections: 1,
      preparedStatements: false,
      parameters: { application_name: `${applicationName}-listen` },
      onNotify: (from, payload) => {
        if (!signal.aborted && from === channel) onPayload(payload);
      },
      onClose: () => over.abort(),
    });
    const onStop = () => over.abort();
    signal.addEventListener('abort', onStop, { once: true });
    const ask = (text: string) =>
      answerWithin(sql.unsafe(text), this.#keepAliveMs, () => new Error(`No answer within ${this.#keepAliveMs} ms.`));
    try {
      await ask(`listen "${channel}"`);
      if (signal.aborted) return new Error('Stopped.');
      this.#interrupted = false;
      onListening();
      for (;;) {
        await delay(this.#keepAliveMs, undefined, { signal: over.signal }).catch(() => undefined);
        if (over.signal.aborted) return new Error('The connection was closed.');
        await ask('select 1');
      }
    } finally {
      signal.removeEventListener('abort', onStop);
      await sql.end({ timeout: 0 });
    }
  }

  #pause(ms: number): Promise<void> {
    return delay(ms, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }
}
