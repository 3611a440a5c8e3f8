import type { Bodies } from '../bodies/bodies.js';
import type { CallCount } from '../connection/calls.js';
import type { TestTime, UnservedRuns } from './test-time.js';

export interface TimeSkipperOptions {
  readonly time: TestTime;
  readonly calls: CallCount;
  readonly bodies: Bodies;
  /** False: only {@link TimeSkipper.advance} moves the clock. */
  readonly isAutomatic: boolean;
  /** Runs wait for workers that do not exist. @returns whether one of them does now */
  readonly onUnserved: (runs: readonly UnservedRuns[]) => Promise<boolean>;
}

/** Something that a test waits for. */
interface Fact {
  /** @returns whether it is there */
  readonly look: () => Promise<boolean>;
  readonly reject: (error: unknown) => void;
}

/** How often it looks without having been told of a change, in ms. */
const LOOK_MS = 100;
/** When it looks again while an end or an event is being passed on, or a worker will claim, in ms. */
const LOOK_AGAIN_MS = 10;
/** A timer must be due when its time is reached, whatever was rounded. */
const BEYOND_MS = 0.01;
/** An `advance` waits this long, in ms of the real time, for runs that do not come to rest. */
const PATIENCE_MS = 20_000;
/** Turns of the event loop that a test gets to act after something that it waited for. */
const TURNS = 10;

/**
 * Moves the clock to the next due time when everything waits: no worker holds a run or will claim one, and the test itself does nothing
 * but wait for a run or a fact. As long as the test does anything else, time passes as usual.
 */
export class TimeSkipper {
  readonly #options: TimeSkipperOptions;
  readonly #facts = new Set<Fact>();
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;
  #lookAgain = false;
  #isTelling = false;
  #advances = 0;
  #stopped = false;
  #failure: unknown;

  constructor(options: TimeSkipperOptions) {
    this.#options = options;
    options.bodies.onEnd(() => this.changed());
  }

  /** Something may stand still now, or a test has begun or ended to wait. */
  changed(): void {
    // Calls of a fact that is being looked for change nothing.
    if (this.#isTelling) return;
    if (!this.#wantsTime || this.#stopped) {
      clearInterval(this.#timer);
      this.#timer = undefined;
      return;
    }
    this.#timer ??= setInterval(() => this.#lookSoon(), LOOK_MS);
    this.#lookSoon();
  }

  /**
   * Waits until there is something; meanwhile time skips, unless it does not by itself.
   *
   * @param look undefined: not yet
   * @param signal ends the waiting
   * @throws what `look` throws, and the signal's reason
   */
  until<T>(look: () => Promise<T | undefined>, signal?: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const fact: Fact = {
        async look() {
          const found = await look();
          if (found !== undefined) resolve(found);
          return found !== undefined;
        },
        reject,
      };
      this.#facts.add(fact);
      signal?.addEventListener('abort', () => {
        if (this.#facts.delete(fact)) reject(signal.reason);
        this.changed();
      });
      this.changed();
    });
  }

  /**
   * Lets time pass, from one due time to the next, and waits after each until everything waits again.
   *
   * @param duringBodies time passes although bodies are at work
   */
  async advance(ms: number, what: string, duringBodies: boolean): Promise<void> {
    const { time } = this.#options;
    this.#advances++;
    try {
      const untilMs = (await time.now()).getTime() + ms;
      for (;;) {
        const dueInMs = await this.#rest(what, duringBodies);
        const leftMs = untilMs - (await time.now()).getTime();
        if (leftMs <= 0) return;
        await time.move(Math.max(0, Math.min(leftMs, dueInMs ?? leftMs)) + BEYOND_MS);
      }
    } finally {
      this.#advances--;
      this.changed();
    }
  }

  stop(): void {
    this.#stopped = true;
    this.changed();
    const error = new Error('The test environment was closed.');
    for (const { reject } of this.#facts) reject(error);
    this.#facts.clear();
  }

  get #wantsTime(): boolean {
    return this.#options.calls.waiting.size > 0 || this.#facts.size > 0;
  }

  #lookSoon(): void {
    if (this.#isLooking) {
      this.#lookAgain = true;
      return;
    }
    this.#isLooking = true;
    setImmediate(() => {
      this.#look()
        .catch((error: unknown) => this.#failed(error))
        .finally(() => {
          this.#isLooking = false;
          if (!this.#lookAgain || this.#stopped) return;
          this.#lookAgain = false;
          this.#lookSoon();
        });
    });
  }

  async #look(): Promise<void> {
    if (this.#stopped || !this.#wantsTime) return;
    const { time } = this.#options;
    if (this.#facts.size > 0) {
      const { unserved, running, isMoving } = await time.look(this.#awaited);
      await this.#serve(unserved);
      setTimeout(() => this.changed(), LOOK_AGAIN_MS).unref();
      if (await this.#tellFacts()) {
        // The test gets the time to act on it.
        for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => setImmediate(resolve));
        this.#lookAgain = true;
        return;
      }
      // What moved meanwhile may be a fact that was not there yet when it was looked for.
      if (running > 0 || isMoving) return;
    }
    if (this.#maySkip) await this.#skip();
  }

  get #maySkip(): boolean {
    const { calls, isAutomatic } = this.#options;
    return isAutomatic && this.#wantsTime && calls.acting === 0 && this.#advances === 0 && !this.#stopped;
  }

  async #skip(): Promise<void> {
    const { time } = this.#options;
    const { hasMoved, isMoving, running, unserved } = await time.skip(this.#awaited, false);
    if (!hasMoved && isMoving && running === 0) setTimeout(() => this.changed(), LOOK_AGAIN_MS).unref();
    if (hasMoved || unserved.length === 0) return;
    if (await this.#serve(unserved)) this.#lookAgain = true;
    else if (this.#maySkip) await time.skip(this.#awaited, true);
  }

  /** Whoever waits for the end of a run that has ended is about to hear of it, so what is awaited is looked up. */
  get #awaited() {
    return { ...this.#options.calls.awaited, facts: this.#facts.size > 0 };
  }

  /** @returns whether there is a worker for one of them now */
  async #serve(unserved: readonly UnservedRuns[]): Promise<boolean> {
    return unserved.length > 0 && (await this.#options.onUnserved(unserved));
  }

  /** @returns whether there was one */
  async #tellFacts(): Promise<boolean> {
    let isAny = false;
    for (const fact of [...this.#facts]) {
      this.#isTelling = true;
      try {
        if (!(await fact.look())) continue;
      } catch (error) {
        fact.reject(error);
      } finally {
        this.#isTelling = false;
      }
      this.#facts.delete(fact);
      isAny = true;
    }
    return isAny;
  }

  /** @returns ms until something is due, once everything waits; null: nothing will be */
  async #rest(what: string, duringBodies: boolean): Promise<number | null> {
    const { time, calls, bodies } = this.#options;
    for (const untilMs = performance.now() + PATIENCE_MS; ; ) {
      const { running, isMoving, dueInMs, unserved } = await time.look(this.#awaited);
      if (await this.#serve(unserved)) continue;
      const held = duringBodies ? Math.max(0, running - bodies.runningRuns) : running;
      if (held === 0 && !isMoving && calls.acting === 0 && !(dueInMs !== null && dueInMs <= 0)) return dueInMs;
      // The reaper wakes what is due; this is sooner.
      if (held === 0 && !isMoving && dueInMs !== null && dueInMs <= 0) await time.move(0);
      if (performance.now() > untilMs) {
        const names = bodies.underWay.map(({ stepId, runId }) => `'${stepId}' of run ${runId}`).join(', ');
        throw new Error(
          `${what} still waits for runs to come to rest after ${PATIENCE_MS / 1_000} s. ` +
            `${names === '' ? 'No body is at work.' : `Bodies at work: ${names}. Let them end, or pass { duringBodies: true }.`}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }

  /** The database is gone: whoever waits is told. */
  #failed(error: unknown): void {
    if (this.#stopped || this.#failure === error) return;
    this.#failure = error;
    for (const { reject } of this.#facts) reject(error);
    this.#facts.clear();
    this.changed();
  }
}
