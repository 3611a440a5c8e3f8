import { type Clock, monotonicClock } from '@perdure/clock';
import type { Logger } from 'pino';

export interface DatabaseWatchOptions {
  /** Checks that the database does what the server needs, within a bounded time; throws when it does not. */
  readonly probe: () => Promise<void>;
  /** Called with every change, and once when the watch begins. */
  readonly onChange: (available: boolean) => void;
  readonly log: Logger;
  /** Between two probes while the database is available, in ms; default 2,000. */
  readonly periodMs?: number;
  /** Between two probes while it is not, in ms; default 1,000. */
  readonly retryMs?: number;
  readonly clock?: Clock;
}

/** Shortest time between two log lines about failed statements while the database is available, in ms. */
const TROUBLE_LOG_MS = 10_000;

/**
 * Knows whether the database is available: probes it regularly, and at once when a statement had no answer. Logs the beginning
 * and the end of an outage, so that no other part needs to log each failure.
 */
export class DatabaseWatch {
  readonly #options: DatabaseWatchOptions;
  readonly #clock: Clock;
  #available = false;
  #lostAtMs: number | undefined;
  #stopTimer: () => void = () => undefined;
  #probing: Promise<void> | undefined;
  #stopped = false;
  #troubles = 0;
  #troubleLoggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: DatabaseWatchOptions) {
    this.#options = options;
    this.#clock = options.clock ?? monotonicClock;
  }

  get available(): boolean {
    return this.#available;
  }

  /** @returns after the first probe */
  start(): Promise<void> {
    return this.#probe();
  }

  /** A statement had no answer, or its connection broke. */
  suspect(error: Error): void {
    if (!this.#available || this.#stopped) return;
    this.#troubles++;
    if (this.#clock.nowMs() - this.#troubleLoggedAtMs >= TROUBLE_LOG_MS) {
      this.#options.log.warn({ event: 'database_trouble', statements: this.#troubles, message: error.message });
      this.#troubles = 0;
      this.#troubleLoggedAtMs = this.#clock.nowMs();
    }
    void this.#probe();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopTimer();
    await this.#probing;
  }

  #probe(): Promise<void> {
    this.#probing ??= this.#look().finally(() => {
      this.#probing = undefined;
      if (this.#stopped) return;
      this.#stopTimer();
      const { periodMs = 2_000, retryMs = 1_000 } = this.#options;
      this.#stopTimer = this.#clock.after(this.#available ? periodMs : retryMs, () => void this.#probe());
    });
    return this.#probing;
  }

  async #look(): Promise<void> {
    try {
      // A single broken connection is not an outage: the second probe uses another connection.
      await this.#options.probe().catch(() => this.#options.probe());
      this.#found(true, '');
    } catch (error) {
      this.#found(false, error instanceof Error ? error.message : String(error));
    }
  }

  #found(available: boolean, message: string): void {
    if (this.#stopped || (available === this.#available && (available || this.#lostAtMs !== undefined))) return;
    const { log, onChange } = this.#options;
    this.#available = available;
    if (!available) {
      this.#lostAtMs = this.#clock.nowMs();
      log.error({ event: 'database_unavailable', message });
    } else if (this.#lostAtMs !== undefined) {
      log.info({ event: 'database_available', outageMs: Math.round(this.#clock.nowMs() - this.#lostAtMs) });
      this.#lostAtMs = undefined;
    }
    onChange(available);
  }
}
