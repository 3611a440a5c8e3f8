import { ChurningMap } from '@perdure/collections';
import type { Keeper, QueueRef } from '@perdure/store';

/** Runs remembered at most. A run that is forgotten wakes like any other: claimable, then claimed. */
const MAX_REMEMBERED = 20_000;

/** A worker that keeps a run in memory, and the queue where it polls. */
export type RunKeeper = Keeper & QueueRef;

/**
 * Suspended runs that workers keep in memory and wait for something from outside, as far as they were suspended here. An entry may be
 * wrong by now: the statement that leases a run to its keeper looks.
 */
export class KeptRuns {
  readonly #keepers = new ChurningMap<string, RunKeeper>();
  /** One object for all runs of a worker, queue and type. */
  #latest: RunKeeper | undefined;

  remember(runId: string, keeper: RunKeeper): void {
    this.#keepers.delete(runId);
    this.#keepers.set(runId, this.#shared(keeper));
    if (this.#keepers.size <= MAX_REMEMBERED) return;
    for (const oldest of this.#keepers.keys()) {
      this.#keepers.delete(oldest);
      return;
    }
  }

  forget(runId: string): void {
    if (this.#keepers.size > 0) this.#keepers.delete(runId);
  }

  keeperOf(runId: string): RunKeeper | undefined {
    return this.#keepers.get(runId);
  }

  #shared(keeper: RunKeeper): RunKeeper {
    const latest = this.#latest;
    const isSame =
      latest !== undefined &&
      latest.workerId === keeper.workerId &&
      latest.workflowType === keeper.workflowType &&
      latest.taskQueue === keeper.taskQueue &&
      latest.namespace === keeper.namespace;
    if (isSame) return latest;
    this.#latest = keeper;
    return keeper;
  }
}
