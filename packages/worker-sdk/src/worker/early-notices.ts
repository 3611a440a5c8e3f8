import type { LeasedRun } from '@perdure/proto';
import type { Clock } from '../clock.js';
import { leaseKey, type NoticedLeases } from './late-claims.js';

interface Notice {
  isCancelled: boolean;
  isEnded: boolean;
  hasArrivals: boolean;
  readonly heardAtMs: number;
}

/** A claim is rarely longer on its way. Heartbeats say the same, so forgetting a notice loses nothing. */
const KEEP_MS = 10_000;
const MAX_NOTICES = 1_000;

/**
 * Notices about leases that this worker does not have yet: the claim and the notice have separate ways from the server, and the notice may be
 * faster. Notices about leases that it no longer has land here too, and expire.
 */
export class EarlyNotices {
  readonly #clock: Clock;
  /** By the key of the lease, the oldest first. */
  readonly #notices = new Map<string, Notice>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#notices.size;
  }

  /** @param keys of leases that are not known here */
  remember(keys: Iterable<string>, { cancelled, ended, awaited }: NoticedLeases): void {
    this.#expire();
    for (const key of keys) {
      const known = this.#notices.get(key);
      const notice = known ?? {
        isCancelled: false,
        isEnded: false,
        hasArrivals: false,
        heardAtMs: this.#clock.nowMs(),
      };
      notice.isCancelled ||= cancelled.has(key);
      notice.isEnded ||= ended.has(key);
      notice.hasArrivals ||= awaited.has(key);
      if (known === undefined) this.#notices.set(key, notice);
    }
    for (const key of this.#notices.keys()) {
      if (this.#notices.size <= MAX_NOTICES) return;
      this.#notices.delete(key);
    }
  }

  /**
   * Adds to a claim what was heard of it before it came.
   *
   * @returns false when its lease has ended already
   */
  apply(leased: LeasedRun): boolean {
    if (this.#notices.size === 0) return true;
    const key = leaseKey(leased);
    const notice = this.#notices.get(key);
    if (notice === undefined) return true;
    this.#notices.delete(key);
    if (notice.isCancelled) leased.cancelRequested = true;
    if (notice.hasArrivals) leased.hasArrivals = true;
    return !notice.isEnded;
  }

  #expire(): void {
    const untilMs = this.#clock.nowMs() - KEEP_MS;
    for (const [key, { heardAtMs }] of this.#notices) {
      if (heardAtMs >= untilMs) return;
      this.#notices.delete(key);
    }
  }
}
