/** How a wait ended. */
export type WaitEnd = 'due' | 'cancelled';

export interface PendingWait {
  readonly stepId: string;
  readonly on: 'TIMER' | 'RETRY';
  readonly uncancellable: boolean;
  /** By the monotonic clock. */
  readonly dueAtMs: number;
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
    for (const stepId of stepIds) this.#entries.get(stepId)?.end('due');
  }

  /** The run was cancelled. */
  cancel(): void {
    for (const entry of [...this.#entries.values()]) if (!entry.uncancellable) entry.end('cancelled');
  }

  /** Forgets all waits; none of them ends. */
  stop(): void {
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    this.#entries.clear();
  }

  #arm(entry: Entry): void {
    const remainingMs = entry.dueAtMs - performance.now();
    entry.timer = setTimeout(
      () => (remainingMs > MAX_TIMER_MS ? this.#arm(entry) : entry.end('due')),
      Math.min(Math.max(0, remainingMs), MAX_TIMER_MS),
    );
  }
}
