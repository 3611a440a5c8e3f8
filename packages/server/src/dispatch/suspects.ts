import { ChurningMap } from '@perdure/collections';
import type { QueueRef } from '@perdure/store';

/** Runs remembered at most; beyond that they are forgotten, and polls find the next suspect with their regular look. */
const MAX_REMEMBERED = 10_000;

/**
 * Suspects that workers were leased here, with their queues. A worker that holds one is given no other (decision 0014), so the
 * others wait in the queue although its polls have room for them: they are worth a look as soon as one is given up.
 */
export class Suspects {
  readonly #queues = new ChurningMap<string, QueueRef>();

  leased(runId: string, { namespace, taskQueue }: QueueRef): void {
    if (this.#queues.size >= MAX_REMEMBERED) this.#queues.clear();
    this.#queues.set(runId, { namespace, taskQueue });
  }

  /** @returns the queue to look at, when the run was a suspect that was leased here */
  left(runId: string): QueueRef | undefined {
    if (this.#queues.size === 0) return undefined;
    const queue = this.#queues.get(runId);
    if (queue !== undefined) this.#queues.delete(runId);
    return queue;
  }
}
