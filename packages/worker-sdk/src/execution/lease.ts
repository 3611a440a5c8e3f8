/** How much earlier than the server a worker stops trusting a lease: clocks run at different speeds, messages take time. */
const MARGIN_SHARE = 0.1;

/** The right to go on with a run, by this process's monotonic clock. */
export class Lease {
  readonly runId: string;
  readonly leaseToken: number;
  readonly #durationMs: number;
  #trustedUntilMs: number;

  /** @param claimedAtMs by the monotonic clock */
  constructor(runId: string, leaseToken: number, durationMs: number, claimedAtMs: number) {
    this.runId = runId;
    this.leaseToken = leaseToken;
    this.#durationMs = durationMs;
    this.#trustedUntilMs = claimedAtMs + durationMs * (1 - MARGIN_SHARE);
  }

  /** @param sentAtMs when the renewal that was acknowledged was sent, by the monotonic clock */
  renewed(sentAtMs: number): void {
    this.#trustedUntilMs = Math.max(this.#trustedUntilMs, sentAtMs + this.#durationMs * (1 - MARGIN_SHARE));
  }

  /** By the monotonic clock. */
  get trustedUntilMs(): number {
    return this.#trustedUntilMs;
  }

  /**
   * Ms for which it may still be trusted; 0 or less: not any more. The clock is read each time: the process may have stood
   * still within one turn of the event loop.
   */
  get remainingMs(): number {
    return this.#trustedUntilMs - performance.now();
  }
}
