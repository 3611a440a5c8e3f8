import postgres from 'postgres';

export interface ListenerOptions {
  readonly url: string;
  readonly channel: string;
  readonly applicationName: string;
  readonly onPayload: (payload: string) => void;
  /** Called each time listening has begun: anything may have been missed before, so look once now. */
  readonly onListening: () => void;
  /** Called when the connection broke or could not be made; the next try follows by itself. */
  readonly onInterrupted?: (error: Error) => void;
  /** How often the connection proves that it is alive, in ms. */
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
  const keepAliveMs = options.keepAliveMs ?? 10_000;
  let stopped = false;
  let current: postgres.Sql | undefined;
  let wake: () => void = () => undefined;

  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });

  const listenOnce = async (onUp: () => void): Promise<void> => {
    let broken = false;
    const settings = {
      max: 1,
      fetch_types: false,
      connect_timeout: 5,
      idle_timeout: 0,
      max_lifetime: null,
      onnotice: () => undefined,
      connection: { application_name: `${options.applicationName}-listen` },
      onnotify: (channel: string, payload: string) => {
        if (!stopped && channel === options.channel) options.onPayload(payload);
      },
      onclose: () => {
        broken = true;
        wake();
      },
    };
    const sql = postgres(options.url, settings as postgres.Options<Record<string, never>>);
    current = sql;
    try {
      await answerWithin(sql.unsafe(`listen "${options.channel}"`), keepAliveMs);
      onUp();
      options.onListening();
      while (!broken && !stopped) {
        await pause(keepAliveMs);
        if (!broken && !stopped) await answerWithin(sql.unsafe('select 1'), keepAliveMs);
      }
      if (!stopped) throw new Error('the connection was closed');
    } finally {
      await sql.end({ timeout: 0 });
    }
  };

  const loop = async () => {
    let retryMs = RETRY_MIN_MS;
    while (!stopped) {
      try {
        await listenOnce(() => {
          retryMs = RETRY_MIN_MS;
        });
      } catch (error) {
        if (stopped) return;
        options.onInterrupted?.(error instanceof Error ? error : new Error(String(error)));
        await pause(retryMs * (0.5 + Math.random()));
        retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
      }
    }
  };
  const done = loop();

  return {
    async stop() {
      stopped = true;
      wake();
      await current?.end({ timeout: 0 });
      await done;
    },
  };
}

async function answerWithin<T>(query: PromiseLike<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  try {
    return await Promise.race([
      query,
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
      }),
    ]);
  } finally {
    clearTimeout(timer);
  }
}
