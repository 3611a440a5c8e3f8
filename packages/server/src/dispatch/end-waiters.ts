import { ChurningMap } from '@perdure/collections';
import { type Database, finishedAmong, type RunEnd } from '@perdure/store';
import type { Logger } from 'pino';

/** Told when the run has ended; without `end` it has to be looked up, and when the server stops it may not have ended. */
type OnEnd = (end: RunEnd | undefined) => void;

/** A run that was started here and of whose end nobody has told. */
export interface OpenRun {
  readonly namespace: string;
  readonly workflowId: string;
}

/** Runs remembered as open, at the most; some 200 bytes each. */
const MAX_OPEN_RUNS = 20_000;
const FORGOTTEN_AT_ONCE = 2_000;

/**
 * Those who wait for runs to end. Whoever waits subscribes first and then looks, so no end falls between the two. A look is
 * not needed for a run that was started here and has not been heard of since: its end will be told, by whoever writes it.
 */
export class EndWaiters {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #waiters = new ChurningMap<string, OnEnd[]>();
  readonly #open = new ChurningMap<string, OpenRun>();
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
  subscribe(runId: string, onEnd: OnEnd): { cancel(): void } {
    if (this.#stopped) {
      onEnd(undefined);
      return { cancel: () => undefined };
    }
    const callbacks = this.#waiters.get(runId);
    if (callbacks === undefined) this.#waiters.set(runId, [onEnd]);
    else callbacks.push(onEnd);
    return { cancel: () => this.#cancel(runId, onEnd) };
  }

  #cancel(runId: string, onEnd: OnEnd): void {
    const callbacks = this.#waiters.get(runId);
    const index = callbacks?.indexOf(onEnd) ?? -1;
    if (callbacks === undefined || index < 0) return;
    callbacks.splice(index, 1);
    if (callbacks.length === 0) this.#waiters.delete(runId);
  }

  /** A run is about to be started here. */
  starting({ runId, namespace, workflowId }: OpenRun & { readonly runId: string }): void {
    this.#open.set(runId, { namespace, workflowId });
    if (this.#open.size <= MAX_OPEN_RUNS) return;
    // Many at once: finding the oldest of a map costs as much as was deleted from it before.
    let surplus = FORGOTTEN_AT_ONCE;
    for (const oldest of this.#open.keys()) {
      this.#open.delete(oldest);
      if (--surplus === 0) return;
    }
  }

  notStarted(runId: string): void {
    this.#open.delete(runId);
  }

  /** @returns undefined when the run has ended, or when it is not known whether it has */
  openRun(runId: string): OpenRun | undefined {
    return this.#open.get(runId);
  }

  /** @param end how it ended; undefined when that has to be looked up */
  ended(runId: string, end?: RunEnd): void {
    this.#open.delete(runId);
    const callbacks = this.#waiters.get(runId);
    if (callbacks === undefined) return;
    this.#waiters.delete(runId);
    for (const onEnd of callbacks) onEnd(end);
  }

  /** Something may have been missed. */
  doubt(): void {
    this.#open.clear();
    void this.look();
  }

  /** Looks which of the awaited runs have ended, in one statement. */
  async look(): Promise<void> {
    if (this.#looking || this.#waiters.size === 0) return;
    this.#looking = true;
    try {
      for (const runId of await finishedAmong(this.#db, [...this.#waiters.keys()])) this.ended(runId);
    } catch (error) {
      this.#log.debug({ event: 'end_read_failed', err: error });
    } finally {
      this.#looking = false;
    }
  }

  /** Lets everyone go. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#fallback);
    for (const runId of [...this.#waiters.keys()]) this.ended(runId);
  }
}
