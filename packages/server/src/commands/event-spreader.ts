import { type Database, spreadEvents } from '@perdure/store';
import type { Logger } from 'pino';
import { afterReached, type Effect } from './after-commit.js';

export interface EventSpreaderOptions {
  readonly db: Database;
  readonly log: Logger;
  /** Aborted when the server stops. */
  readonly stopping: AbortSignal;
  /** Must not throw. */
  readonly apply: (effect: Effect) => void;
}

/**
 * Gives events to the waits that the publishing statement had no room for, one bounded statement after the other. When this server dies, or
 * the database fails, a reaper continues.
 */
export class EventSpreader {
  readonly #options: EventSpreaderOptions;
  #isSpreading = false;
  #isWanted = false;

  constructor(options: EventSpreaderOptions) {
    this.#options = options;
  }

  /** There is an event that has not reached every wait. */
  spread(): void {
    this.#isWanted = true;
    if (!this.#isSpreading) void this.#spreadAll();
  }

  async #spreadAll(): Promise<void> {
    const { db, log, stopping, apply } = this.#options;
    this.#isSpreading = true;
    try {
      while (this.#isWanted && !stopping.aborted) {
        this.#isWanted = false;
        const { reached, hasMore } = await spreadEvents(db);
        for (const effect of afterReached(reached)) apply(effect);
        if (hasMore) this.#isWanted = true;
      }
    } catch (error) {
      log.warn({ event: 'spread_failed', message: error instanceof Error ? error.message : String(error) });
    } finally {
      this.#isSpreading = false;
    }
  }
}
