import { setTimeout as delay } from 'node:timers/promises';
import { answerWithin } from './answer-within.js';
import { openDriver } from './driver.js';

export interface ListenerOptions {
  readonly url: string;
  readonly channel: string;
  readonly applicationName: string;
  readonly onPayload: (payload: string) => void;
  /** Called each time listening has begun: anything may have been missed before, so look once now. */
  readonly onListening: () => void;
  /** Called once when the connection broke or cannot be made; the next tries follow by themselves. */
  readonly onInterrupted?: (error: Error) => void;
  /** How often the connection proves that it is alive, in ms; default 10,000. */
  readonly keepAliveMs?: number;
}

export interface Listener {
  /** Ends the connection; no callback follows. */
  stop(): Promise<void>;
}

const RETRY_MIN_MS = 100;
const RETRY_MAX_MS = 5_000;

/**
 * Listens on a channel for as long as the process lives. A connection of its own, watched by a keep-alive statement: a
 * half-open one (its peer is gone without a FIN) is found within two keep-alives, and every break leads to a new LISTEN
 * with a new look. The driver's own `listen` gives up for good when the first reconnect fails, hence this.
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
      // One that breaks as soon as it is made must not be made again and again without a pause.
      if (performance.now() - beganAtMs > RETRY_MAX_MS) retryMs = RETRY_MIN_MS;
      await this.#pause(retryMs * (0.5 + Math.random()));
      retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
    }
  }

  /** One connection, from its beginning to its end. Nothing of it outlives this call. */
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
