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
  timer: NodeJS.Timeout | undefined;
  readonly end: (how: WaitEnd) => void;
}

/** setTimeout takes no more. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** What a run awaits: times, watched here for as long as the run stays in this worker. */
export class Waits {
  readonly #entries = new Map<string, Entry>();
  readonly #onChange: () => void;

  /** @param onChange called after a wait began or ended */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  get size(): number {
    return this.#entries.size;
  }

  list(): readonly PendingWait[] {
    return [...this.#entries.values()];
  }

  /** @returns once the time has come by the monotonic clock, or the wait was ended otherwise */
  wait(wait: Omit<PendingWait, 'dueAtMs'> & { readonly remainingMs: number }): Promise<WaitEnd> {
    return new Promise((resolve) => {
      const entry: Entry = {
        stepId: wait.stepId,
        on: wait.on,
        uncancellable: wait.uncancellable,
        dueAtMs: performance.now() + Math.max(0, wait.remainingMs),
        timer: undefined,
        end: (how) => {
          clearTimeout(entry.timer);
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

  /** The server says that these are due. */
  due(stepIds: readonly string[]): void {
    for (const stepId of stepIds) this.#entries.get(stepId)?.end(DUE);
  }

  /** The run was cancelled. */
  cancel(): void {
    for (const entry of [...this.#entries.values()]) if (!entry.uncancellable) entry.end(CANCELLED);
  }

  /** Watches no times any more, until each wait is told how it goes on. */
  pause(): void {
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
  }

  /** After a pause: the timer has fired meanwhile. */
  fired(stepId: string, at: Date | undefined): void {
    this.#entries.get(stepId)?.end({ kind: 'fired', at });
  }

  /** After a pause: the time has not come, as far as is known. */
  goOn(stepId: string, remainingMs: number): void {
    const entry = this.#entries.get(stepId);
    if (entry === undefined) return;
    entry.dueAtMs = performance.now() + Math.max(0, remainingMs);
    this.#arm(entry);
  }

  /** Forgets all waits; none of them ends. */
  stop(): void {
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    this.#entries.clear();
  }

  #arm(entry: Entry): void {
    const remainingMs = entry.dueAtMs - performance.now();
    entry.timer = setTimeout(
      () => (remainingMs > MAX_TIMER_MS ? this.#arm(entry) : entry.end(DUE)),
      Math.min(Math.max(0, remainingMs), MAX_TIMER_MS),
    );
  }
}
