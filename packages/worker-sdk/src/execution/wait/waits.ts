import { type Clock, monotonicClock } from '../../clock.js';

/** How a wait ended, unless something arrived for it. */
export type WaitEnd = { readonly kind: 'due' } | { readonly kind: 'cancelled' };

export const CANCELLED: WaitEnd = { kind: 'cancelled' };
const DUE: WaitEnd = { kind: 'due' };

export interface PendingWait {
  readonly stepId: string;
  /** ARRIVAL: for something from outside; `dueAtMs` is its timeout. */
  readonly on: 'TIMER' | 'RETRY' | 'ARRIVAL';
  readonly uncancellable: boolean;
  /** For the end of a child: several share a wake-up. */
  readonly isChild?: boolean | undefined;
  /** By the monotonic clock; infinite: no time ends the wait. */
  dueAtMs: number;
}

export interface NewWait extends Omit<PendingWait, 'dueAtMs'> {
  /** Undefined: no time ends the wait. */
  readonly remainingMs: number | undefined;
}

interface Entry extends PendingWait {
  /** Stops watching. */
  stop: (() => void) | undefined;
  readonly end: (how: WaitEnd) => void;
}

/** The waits of a run, watched here for as long as this worker holds it. */
export class Waits {
  readonly #entries = new Map<string, Entry>();
  readonly #onChange: () => void;
  readonly #onTimeout: (stepId: string) => void;
  readonly #clock: Clock;

  /**
   * @param onChange called after a wait began or ended
   * @param onTimeout called when the timeout of a wait for an arrival has passed here: the wait continues until the database says the same
   */
  constructor(onChange: () => void, onTimeout: (stepId: string) => void, clock: Clock = monotonicClock) {
    this.#onChange = onChange;
    this.#onTimeout = onTimeout;
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  list(): readonly PendingWait[] {
    return [...this.#entries.values()];
  }

  /** @returns once the time has come by the monotonic clock, or another move ended the wait; never when something arrives */
  wait(wait: NewWait): Promise<WaitEnd> {
    return new Promise((resolve) => {
      const entry: Entry = {
        stepId: wait.stepId,
        on: wait.on,
        uncancellable: wait.uncancellable,
        isChild: wait.isChild,
        dueAtMs: this.#clock.nowMs() + Math.max(0, wait.remainingMs ?? Number.POSITIVE_INFINITY),
        stop: undefined,
        end: (how) => {
          this.#remove(entry);
          resolve(how);
        },
      };
      this.#entries.set(wait.stepId, entry);
      this.#arm(entry);
      this.#onChange();
    });
  }

  /** The server says that these waits are satisfied. */
  due(stepIds: readonly string[]): void {
    for (const stepId of stepIds) {
      const entry = this.#entries.get(stepId);
      if (entry !== undefined) this.#onDue(entry);
    }
  }

  /** The outcome has come from outside: there is nothing to wait for; {@link wait} does not resolve. */
  arrived(stepId: string): void {
    const entry = this.#entries.get(stepId);
    if (entry !== undefined) this.#remove(entry);
  }

  /** The run was cancelled. */
  cancel(): void {
    for (const entry of [...this.#entries.values()]) if (!entry.uncancellable) entry.end(CANCELLED);
  }

  /** Stops watching times, until {@link resume}. */
  pause(): void {
    for (const { stop } of this.#entries.values()) stop?.();
  }

  /** Sets how long a wait still lasts, in ms, and watches it. */
  rearm(stepId: string, remainingMs: number): void {
    const entry = this.#entries.get(stepId);
    if (entry === undefined) return;
    entry.stop?.();
    entry.dueAtMs = this.#clock.nowMs() + Math.max(0, remainingMs);
    this.#arm(entry);
  }

  /** After a pause: watches all times again. */
  resume(): void {
    for (const entry of this.#entries.values()) {
      entry.stop?.();
      this.#arm(entry);
    }
  }

  /** Forgets all waits; none of them ends. */
  stop(): void {
    for (const { stop } of this.#entries.values()) stop?.();
    this.#entries.clear();
  }

  #remove(entry: Entry): void {
    entry.stop?.();
    this.#entries.delete(entry.stepId);
    this.#onChange();
  }

  #arm(entry: Entry): void {
    if (entry.dueAtMs === Number.POSITIVE_INFINITY) return;
    entry.stop = this.#clock.after(Math.max(0, entry.dueAtMs - this.#clock.nowMs()), () => this.#onDue(entry));
  }

  #onDue(entry: Entry): void {
    if (entry.on === 'ARRIVAL') this.#onTimeout(entry.stepId);
    else entry.end(DUE);
  }
}
