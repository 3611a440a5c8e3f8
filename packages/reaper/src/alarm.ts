import { type Clock, monotonicClock } from '@perdure/clock';

/** Sleeps until the earliest time it was set to, or until it is rung. */
export class Alarm {
  #dueAtMs = Number.POSITIVE_INFINITY;
  readonly #clock: Clock;
  #stopTimer: () => void = () => undefined;
  #wake: (() => void) | undefined;

  constructor(clock: Clock = monotonicClock) {
    this.#clock = clock;
  }

  /** Brings the end of the sleep forward, never back. */
  setIn(ms: number): void {
    const dueAtMs = this.#clock.nowMs() + Math.max(0, ms);
    if (dueAtMs >= this.#dueAtMs) return;
    this.#dueAtMs = dueAtMs;
    if (this.#wake !== undefined) this.#arm();
  }

  /** Ends the present sleep, or the next one, at once. */
  ring(): void {
    this.setIn(0);
  }

  /** Resolves at the set time, or after `maxMs`; then no time is set. */
  async sleep(maxMs: number): Promise<void> {
    this.setIn(maxMs);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#arm();
    });
    this.#stopTimer();
    this.#wake = undefined;
    this.#dueAtMs = Number.POSITIVE_INFINITY;
  }

  #arm(): void {
    this.#stopTimer();
    this.#stopTimer = this.#clock.after(this.#dueAtMs - this.#clock.nowMs(), () => this.#wake?.());
  }
}
