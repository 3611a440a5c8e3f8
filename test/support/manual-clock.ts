import type { Clock } from '@perdure/clock';

interface Timer {
  readonly atMs: number;
  readonly f: () => void;
}

/** A clock that stands still until a test moves it. */
export class ManualClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<Timer>();

  nowMs = () => this.#nowMs;

  after = (ms: number, f: () => void): (() => void) => {
    const timer = { atMs: this.#nowMs + Math.max(0, ms), f };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };

  /** When the next timer is due, in ms from now; undefined: there is none. */
  get nextInMs(): number | undefined {
    const next = this.#next(Number.MAX_VALUE);
    return next === undefined ? undefined : next.atMs - this.#nowMs;
  }

  /** Lets time pass, timer by timer in the order in which they are due; what a timer starts gets turns of the event loop. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await settled();
    for (let timer = this.#next(untilMs); timer !== undefined; timer = this.#next(untilMs)) {
      this.#timers.delete(timer);
      this.#nowMs = Math.max(this.#nowMs, timer.atMs);
      timer.f();
      await settled();
    }
    this.#nowMs = untilMs;
  }

  /** The process stands still: time passes, and no timer is called before the test goes on. */
  stall(ms: number): void {
    this.#nowMs += ms;
  }

  #next(untilMs: number): Timer | undefined {
    let next: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.atMs <= untilMs && (next === undefined || timer.atMs < next.atMs)) next = timer;
    }
    return next;
  }
}

/** Some turns of the event loop, enough for promises and immediates that are under way. */
export async function settled(turns = 5): Promise<void> {
  for (let n = 0; n < turns; n++) await new Promise((resolve) => setImmediate(resolve));
}
