import { type Clock, monotonicClock } from '../../clock.js';

/** How much earlier than the server a worker stops trusting a lease: clocks run at different speeds, messages take time. */
const MARGIN_SHARE = 0.1;
/** With less than this left, code waits for a renewal before it starts. */
const BEGIN_SHARE = 0.2;

/** The right to advance a run, by this process's monotonic clock. */
export class Lease {
  readonly runId: string;
  readonly leaseToken: number;
  readonly #durationMs: number;
  readonly #clock: Clock;
  #trustedUntilMs: number;

  /**
   * @param sinceMs by the clock; a time at which the lease certainly had not begun: when the call was sent that the server
   * answered with it. The time at which the answer is read proves nothing: it may have waited for the network or this process.
   */
  constructor(runId: string, leaseToken: number, durationMs: number, sinceMs: number, clock: Clock = monotonicClock) {
    this.runId = runId;
    this.leaseToken = leaseToken;
    this.#durationMs = durationMs;
    this.#clock = clock;
    this.#trustedUntilMs = sinceMs + durationMs * (1 - MARGIN_SHARE);
  }

  /** @param sentAtMs when the renewal that was acknowledged was sent, by the clock */
  renewed(sentAtMs: number): void {
    this.#trustedUntilMs = Math.max(this.#trustedUntilMs, sentAtMs + this.#durationMs * (1 - MARGIN_SHARE));
  }

  /** By the clock. */
  get trustedUntilMs(): number {
    return this.#trustedUntilMs;
  }

  /**
   * Ms for which it may still be trusted; 0 or less when it may not. The clock is read each time: the process may have stalled
   * within one turn of the event loop.
   */
  get remainingMs(): number {
    return this.#trustedUntilMs - this.#clock.nowMs();
  }

  /** Enough is left for code to start now and for a renewal to come in time. */
  get mayBegin(): boolean {
    return this.remainingMs >= this.#durationMs * BEGIN_SHARE;
  }
}
