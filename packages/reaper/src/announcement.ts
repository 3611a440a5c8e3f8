import { hostname } from 'node:os';
import { type Clock, every, monotonicClock, pause } from '@perdure/clock';
import { announceReaper, type Database, retireReaper } from '@perdure/store';
import type { Logger } from 'pino';

/** How often a reaper announces that it is alive, in ms. */
const ANNOUNCE_MS = 2_000;
/** Longest time that a stop waits for a database that does not answer, in ms. */
const RETIRE_MS = 1_000;
/** A loop that did not complete a round for this long beyond its longest sleep is stuck, in ms. */
const STUCK_AFTER_MS = 10_000;

interface AnnouncementOptions {
  readonly db: Database;
  readonly log: Logger;
  readonly reaperId: string;
  readonly maxSleepMs: number;
  readonly clock?: Clock;
}

/** Announces in the database that this reaper is alive, while its loop makes progress: a stuck reaper becomes silent. */
export class Announcement {
  readonly #options: AnnouncementOptions;
  readonly #clock: Clock;
  readonly #stopTimer: () => void;
  #roundAtMs: number;
  #announcing: Promise<void> | undefined;

  constructor(options: AnnouncementOptions) {
    this.#options = options;
    this.#clock = options.clock ?? monotonicClock;
    this.#roundAtMs = this.#clock.nowMs();
    this.#stopTimer = every(this.#clock, ANNOUNCE_MS, () => this.#announce());
    this.#announce();
  }

  /** The loop has looked at everything once. */
  onRound(): void {
    this.#roundAtMs = this.#clock.nowMs();
  }

  /** Removes this reaper from the list of reapers. */
  async stop(): Promise<void> {
    this.#stopTimer();
    const retired = new AbortController();
    await Promise.race([this.#retire(), pause(this.#clock, RETIRE_MS, retired.signal)]);
    retired.abort();
  }

  async #retire(): Promise<void> {
    await this.#announcing;
    await retireReaper(this.#options.db, this.#options.reaperId).catch((error) => this.#warn('retire_failed', error));
  }

  #announce(): void {
    const { db, reaperId, maxSleepMs } = this.#options;
    if (this.#announcing !== undefined || this.#clock.nowMs() - this.#roundAtMs > maxSleepMs + STUCK_AFTER_MS) return;
    this.#announcing = announceReaper(db, { reaperId, identity: `${hostname()}:${process.pid}` })
      .catch((error) => this.#warn('announce_failed', error))
      .finally(() => {
        this.#announcing = undefined;
      });
  }

  #warn(event: string, error: unknown): void {
    this.#options.log.warn({ event, message: error instanceof Error ? error.message : String(error) });
  }
}
