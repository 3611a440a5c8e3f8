import { ChurningMap } from '@perdure/collections';
import type { RunExecution } from '../execution/run-execution.js';

/**
 * Suspended runs whose code is kept in memory where it stands, so that this worker can resume them without a replay. Only an
 * optimisation: a run that is not here is replayed. When it is full, the run that was suspended first is forgotten.
 */
export class WarmCache {
  readonly #maxRuns: number;
  readonly #executions = new ChurningMap<string, RunExecution>();

  /** @param maxRuns 0: none are kept */
  constructor(maxRuns: number) {
    this.#maxRuns = maxRuns;
  }

  get isEnabled(): boolean {
    return this.#maxRuns > 0;
  }

  get size(): number {
    return this.#executions.size;
  }

  put(execution: RunExecution): void {
    const { runId } = execution.run;
    this.#executions.get(runId)?.forget();
    this.#executions.delete(runId);
    this.#executions.set(runId, execution);
    for (const [oldest, other] of this.#executions) {
      if (this.#executions.size <= this.#maxRuns) return;
      this.#executions.delete(oldest);
      other.forget();
    }
  }

  /** Takes the run out. */
  take(runId: string): RunExecution | undefined {
    const execution = this.#executions.get(runId);
    this.#executions.delete(runId);
    return execution;
  }

  clear(): void {
    for (const execution of this.#executions.values()) execution.forget();
    this.#executions.clear();
  }
}
