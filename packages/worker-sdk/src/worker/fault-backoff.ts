import type { Fault } from '../execution/run/faults.js';

const MIN_DELAY_MS = 5_000;
const MAX_DELAY_MS = 300_000;

/** How long a run must stay away after its `faults`-th fault in a row, in ms; doubles with each fault. */
export function faultDelayMs(faults: number): number {
  return Math.min(MIN_DELAY_MS * 2 ** Math.max(0, faults - 1), MAX_DELAY_MS);
}

/**
 * Counts how often in a row a run had to be given back here because of a fault: its input cannot be decoded, a call about
 * it was refused. It only slows loops down, so only a bounded number of runs is remembered, those that failed last.
 */
export class FaultBackoff {
  readonly #maxRuns: number;
  readonly #faults = new Map<string, number>();

  constructor(maxRuns = 10_000) {
    this.#maxRuns = maxRuns;
  }

  /** Counts a fault. */
  next(runId: string): Fault {
    const faults = (this.#faults.get(runId) ?? 0) + 1;
    this.#faults.delete(runId);
    this.#faults.set(runId, faults);
    for (const oldest of this.#faults.keys()) {
      if (this.#faults.size <= this.#maxRuns) break;
      this.#faults.delete(oldest);
    }
    return { count: faults, delayMs: faultDelayMs(faults) };
  }

  /** The run has advanced; its next fault counts as the first. */
  forget(runId: string): void {
    if (this.#faults.size > 0) this.#faults.delete(runId);
  }
}
