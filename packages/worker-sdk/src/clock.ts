/** The monotonic time of this process and its timers, in one place, so that tests can replace both. */
export interface Clock {
  /** Ms since some fixed moment; never moves back. */
  nowMs(): number;
  /**
   * Calls `f` once, `ms` from now; any length, also Infinity (never), and below 0 (at once, but not before this returns).
   *
   * @returns cancels the call
   */
  after(ms: number, f: () => void): () => void;
}

/** setTimeout takes no more. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export const monotonicClock: Clock = {
  nowMs: () => performance.now(),
  after(ms, f) {
    let remainingMs = ms;
    let timer: NodeJS.Timeout | undefined;
    const arm = () => {
      const partMs = Math.min(Math.max(0, remainingMs), MAX_TIMEOUT_MS);
      remainingMs -= partMs;
      timer = setTimeout(() => (remainingMs > 0 ? arm() : f()), partMs);
    };
    if (ms !== Number.POSITIVE_INFINITY) arm();
    return () => clearTimeout(timer);
  },
};

/** Resolves `ms` from now, or as soon as the signal is aborted. */
export function pause(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const end = () => {
      cancel();
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.after(ms, end);
    signal?.addEventListener('abort', end, { once: true });
  });
}
