import { type Clock, every, monotonicClock } from '@perdure/clock';
import { ChurningMap } from '@perdure/collections';
import { type Database, endedAmong, type RunEnd } from '@perdure/store';
import type { Logger } from 'pino';

/** Called when the run has ended. Without `end` the caller must read it; the call may also mean that the server is stopping. */
type OnEnd = (end: RunEnd | undefined) => void;

/** A run started by this server whose end is not known. */
export interface OpenRun {
  readonly namespace: string;
  readonly workflowId: string;
}

/** Most runs remembered as open; about 200 bytes each. */
const MAX_OPEN_RUNS = 20_000;
const FORGOTTEN_AT_ONCE = 2_000;

/**
 * Callers that wait for runs to end. They subscribe first and read then, so no end is missed between the two. No read is needed
 * for a run that this server started and whose end is not known: the server that records the end will notify this one.
 */
export class EndWaiters {
  readonly #db: Database;
  readonly #log: Logger;
  readonly #waiters = new ChurningMap<string, OnEnd[]>();
  readonly #open = new ChurningMap<string, OpenRun>();
  readonly #stopFallback: () => void;
  #looking = false;
  #stopped = false;

  /** @param fallbackMs how often to look for ends that nobody told of */
  constructor(db: Database, log: Logger, fallbackMs: number, clock: Clock = monotonicClock) {
    this.#db = db;
    this.#log = log;
    this.#stopFallback = every(clock, fallbackMs, () => void this.look());
  }

  /** Runs that somebody waits for. */
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
  onStarting({ runId, namespace, workflowId }: OpenRun & { readonly runId: string }): void {
    this.#open.set(runId, { namespace, workflowId });
    if (this.#open.size <= MAX_OPEN_RUNS) return;
    // Many at once: finding the oldest entry of a map costs as much as the deletions before it.
    let surplus = FORGOTTEN_AT_ONCE;
    for (const oldest of this.#open.keys()) {
      this.#open.delete(oldest);
      if (--surplus === 0) return;
    }
  }

  onNotStarted(runId: string): void {
    this.#open.delete(runId);
  }

  /** @returns undefined when the run has ended, or when that is not known */
  openRun(runId: string): OpenRun | undefined {
    return this.#open.get(runId);
  }

  /** @param end how it ended; undefined when the caller must read it */
  onEnded(runId: string, end?: RunEnd): void {
    this.#open.delete(runId);
    const callbacks = this.#waiters.get(runId);
    if (callbacks === undefined) return;
    this.#waiters.delete(runId);
    for (const onEnd of callbacks) onEnd(end);
  }

  /** Notifications may have been missed: forget what is assumed, and read. */
  resync(): void {
    this.#open.clear();
    void this.look();
  }

  /** Finds out which of the awaited runs have ended, in one statement. */
  async look(): Promise<void> {
    if (this.#looking || this.#waiters.size === 0) return;
    this.#looking = true;
    try {
      for (const runId of await endedAmong(this.#db, [...this.#waiters.keys()])) this.onEnded(runId);
    } catch (error) {
      this.#log.debug({ event: 'end_read_failed', err: error });
    } finally {
      this.#looking = false;
    }
  }

  /** Releases all waiters. */
  stop(): void {
    this.#stopped = true;
    this.#stopFallback();
    for (const runId of [...this.#waiters.keys()]) this.onEnded(runId);
  }
}
