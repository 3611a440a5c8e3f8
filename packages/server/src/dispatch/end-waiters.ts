import { type Database, finishedAmong } from '@perdure/store';
import type { Logger } from 'pino';

/** Those who wait for runs to end. Whoever waits subscribes first and then looks, so no end falls between the two. */
export class EndWaiters {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #waiters = new Map<string, Set<() => void>>();
  readonly #fallback: NodeJS.Timeout;
  #looking = false;
  #stopped = false;

  /** @param fallbackMs how often to look for ends that nobody told of */
  constructor(db: Database, log: Logger, fallbackMs: number) {
    this.#db = db;
    this.#log = log;
    this.#fallback = setInterval(() => void this.look(), fallbackMs);
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** @param onEnd called at most once, also when the server stops */
  subscribe(runId: string, onEnd: () => void): { cancel(): void } {
    if (this.#stopped) {
      onEnd();
      return { cancel: () => undefined };
    }
    const callbacks = this.#waiters.get(runId) ?? new Set();
    this.#waiters.set(runId, callbacks);
    callbacks.add(onEnd);
    return {
      cancel: () => {
        callbacks.delete(onEnd);
        if (callbacks.size === 0 && this.#waiters.get(runId) === callbacks) this.#waiters.delete(runId);
      },
    };
  }

  ended(runIds: readonly string[]): void {
    for (const runId of runIds) {
      const callbacks = this.#waiters.get(runId);
      if (callbacks === undefined) continue;
      this.#waiters.delete(runId);
      for (const onEnd of callbacks) onEnd();
    }
  }

  /** Looks which of the awaited runs have ended, in one statement. */
  async look(): Promise<void> {
    if (this.#looking || this.#waiters.size === 0) return;
    this.#looking = true;
    try {
      this.ended(await finishedAmong(this.#db, [...this.#waiters.keys()]));
    } catch (error) {
      this.#log.debug({ event: 'end_look_failed', err: error });
    } finally {
      this.#looking = false;
    }
  }

  /** Lets everyone go. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#fallback);
    this.ended([...this.#waiters.keys()]);
  }
}
