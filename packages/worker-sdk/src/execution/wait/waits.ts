import { type Clock, monotonicClock } from '../../clock.js';

/** How a wait ended. `fired`: it is recorded already that the timer has fired. */
export type WaitEnd =
  | { readonly kind: 'due' }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'fired'; readonly at: Date | undefined };

export const CANCELLED: WaitEnd = { kind: 'cancelled' };
const DUE: WaitEnd = { kind: 'due' };

export interface PendingWait {
  readonly stepId: string;
  readonly on: 'TIMER' | 'RETRY';
  readonly uncancellable: boolean;
  /** By the monotonic clock. */
  dueAtMs: number;
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
  readonly #clock: Clock;

  /** @param onChange called after a wait began or ended */
  constructor(onChange: () => void, clock: Clock = monotonicClock) {
    this.#onChange = onChange;
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  list(): readonly PendingWait[] {
    return [...this.#entries.values()];
  }

  /** @returns once the time has come by the monotonic clock, or another move ended the wait */
  wait(wait: Omit<PendingWait, 'dueAtMs'> & { readonly remainingMs: number }): Promise<WaitEnd> {
    return new Promise((resolve) => {
      const entry: Entry = {
        stepId: wait.stepId,
        on: wait.on,
        uncancellable: wait.uncancellable,
        dueAtMs: this.#clock.nowMs() + Math.max(0, wait.remainingMs),
        stop: undefined,
        end: (how) => {
          entry.stop?.();
          this.#entries.delete(wait.stepId);
          this.#onChange();
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
    for (const stepId of stepIds) this.#entries.get(stepId)?.end(DUE);
  }

  /** The run was cancelled. */
  cancel(): void {
    for (const entry of [...this.#entries.values()]) if (!entry.uncancellable) entry.end(CANCELLED);
  }

  /** Stops watching times, until {@link resume}. */
  pause(): void {
    for (const { stop } of this.#entries.values()) stop?.();
  }

  /** After a pause: the timer has fired meanwhile. */
  fired(stepId: string, at: Date | undefined): void {
    this.#entries.get(stepId)?.end({ kind: 'fired', at });
  }

  /** After a pause, before {@link resume}: sets how long it still lasts, in ms. */
  rearm(stepId: string, remainingMs: number): void {
    const entry = this.#entries.get(stepId);
    if (entry === undefined) return;
    entry.dueAtMs = this.#clock.nowMs() + Math.max(0, remainingMs);
  }

  /** After a pause: watches all times again, those that {@link rearm} did not change included. */
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

  #arm(entry: Entry): void {
    entry.stop = this.#clock.after(Math.max(0, entry.dueAtMs - this.#clock.nowMs()), () => entry.end(DUE));
  }
}
