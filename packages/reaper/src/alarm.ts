import { performance } from 'node:perf_hooks';

/** Sleeps until the earliest time it was set to, or until it is rung. */
export class Alarm {
  #dueAtMs = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;

  /** Brings the end of the sleep forward, never back. */
  setIn(ms: number): void {
    const dueAtMs = performance.now() + Math.max(0, ms);
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
    clearTimeout(this.#timer);
    this.#wake = undefined;
    this.#dueAtMs = Number.POSITIVE_INFINITY;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#wake?.(), Math.max(0, this.#dueAtMs - performance.now()));
  }
}
