import type { ClaimedRun, Database, QueueRef } from '@perdure/store';
import { overloaded, shuttingDown } from '../rpc/rpc-error.js';
import { ClaimGroup, type PollResult, WaitingPoll } from './claim-group.js';

export interface Poll extends QueueRef {
  readonly workerId: string;
  /** The types that the worker has room for, without repeats. */
  readonly workflowTypes: readonly string[];
  readonly waitMs: number;
  readonly signal: AbortSignal;
}

export interface DispatcherOptions {
  readonly db: Database;
  /** How often waiting polls look without a wake-up, in ms. */
  readonly pollFallbackMs: number;
  /** Polls that may wait at once. */
  readonly maxWaitingPolls: number;
  /** Called with a run that was claimed for a poll that had gone. */
  readonly onUndeliverable: (claim: ClaimedRun) => void;
}

/** Brings waiting polls and claimable runs together. Holds nothing but the waiting callers: a kill loses no run. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  /** By queue, then by the types that a poll asks for. */
  readonly #queues = new Map<string, Map<string, ClaimGroup>>();
  readonly #fallback: NodeJS.Timeout;
  #waiting = 0;
  #stopped = false;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#fallback = setInterval(() => this.wakeAll(), options.pollFallbackMs);
  }

  /**
   * @returns once there is a run, the wait is over, or the caller is gone
   * @throws {RpcError} OVERLOADED or SHUTTING_DOWN
   */
  async poll(request: Poll): Promise<PollResult> {
    if (this.#stopped) throw shuttingDown();
    if (this.#waiting >= this.#options.maxWaitingPolls) {
      throw overloaded(`${this.#options.maxWaitingPolls} polls wait already`);
    }
    const group = this.#groupOf(request);
    const poll = new WaitingPoll(request.workerId);
    const onAbort = () => group.drop(poll);
    const timer = setTimeout(() => group.expire(poll), request.waitMs);
    request.signal.addEventListener('abort', onAbort, { once: true });
    this.#waiting++;
    try {
      if (request.signal.aborted) return { kind: 'empty' };
      group.add(poll);
      return await poll.result;
    } finally {
      this.#waiting--;
      clearTimeout(timer);
      request.signal.removeEventListener('abort', onAbort);
      this.#forget(request, group);
    }
  }

  /**
   * Runs of a queue may have become claimable.
   *
   * @param workflowType of these runs; undefined when not known
   * @returns polls that wait for them here
   */
  wake(queue: QueueRef, workflowType?: string): number {
    let waiting = 0;
    for (const group of this.#queues.get(queueKey(queue))?.values() ?? []) {
      if (workflowType !== undefined && !group.serves(workflowType)) continue;
      waiting += group.waiting;
      group.wake();
    }
    return waiting;
  }

  /** Something may have been missed: every group looks. */
  wakeAll(): void {
    for (const groups of this.#queues.values()) for (const group of groups.values()) group.wake();
  }

  /** Ends the polls of a worker that drains or leaves. */
  releaseWorker(workerId: string): void {
    for (const groups of this.#queues.values()) for (const group of groups.values()) group.release(workerId);
  }

  /** Ends all polls, without a run, and refuses new ones. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#fallback);
    for (const groups of this.#queues.values()) for (const group of groups.values()) group.release(undefined);
  }

  #groupOf(request: Poll): ClaimGroup {
    const key = queueKey(request);
    let groups = this.#queues.get(key);
    if (groups === undefined) {
      groups = new Map();
      this.#queues.set(key, groups);
    }
    const workflowTypes = [...request.workflowTypes].sort();
    const typesKey = workflowTypes.join('\n');
    let group = groups.get(typesKey);
    if (group === undefined) {
      const { namespace, taskQueue } = request;
      group = new ClaimGroup(this.#options.db, { namespace, taskQueue, workflowTypes }, this.#options.onUndeliverable);
      groups.set(typesKey, group);
    }
    return group;
  }

  #forget(request: Poll, group: ClaimGroup): void {
    if (group.waiting > 0) return;
    const groups = this.#queues.get(queueKey(request));
    if (groups === undefined) return;
    for (const [typesKey, candidate] of groups) if (candidate === group) groups.delete(typesKey);
    if (groups.size === 0) this.#queues.delete(queueKey(request));
  }
}

/** Names have no control characters, so the key is unambiguous. */
const queueKey = (queue: QueueRef): string => `${queue.namespace}\n${queue.taskQueue}`;
