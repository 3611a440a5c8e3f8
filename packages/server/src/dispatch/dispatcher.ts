import { type Clock, every, monotonicClock } from '@perdure/clock';
import {
  type ClaimedRun,
  type Database,
  isGuarded,
  type QueueRef,
  type StartRun,
  type StartSlot,
} from '@perdure/store';
import type { Call } from '../call/handlers.js';
import { overloaded, shuttingDown } from '../call/rpc-error.js';
import { ClaimGroup } from './claim-group.js';
import { KeptRuns, type RunKeeper } from './kept-runs.js';
import { Suspects } from './suspects.js';
import { type PollResult, type PollSlots, WaitingPoll } from './waiting-poll.js';

export interface Poll extends QueueRef, PollSlots {
  /** The types to claim, without repeats. */
  readonly workflowTypes: readonly string[];
  readonly waitMs: number;
  readonly call: Call;
}

export interface DispatcherOptions {
  readonly db: Database;
  /** How often waiting polls claim without a wake-up, in ms. */
  readonly pollFallbackMs: number;
  /** Most polls that may wait at once. */
  readonly maxWaitingPolls: number;
  /** Called with a run that was claimed for a poll whose caller has left. */
  readonly onUndeliverable: (claim: ClaimedRun) => void;
  readonly clock?: Clock;
}

/** Matches waiting polls and claimable runs. Its only state is the waiting callers, so a kill loses no run. */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  /** By queue, then by the types of the poll. */
  readonly #queues = new Map<string, Map<string, ClaimGroup>>();
  readonly #suspects = new Suspects();
  readonly #kept = new KeptRuns();
  readonly #clock: Clock;
  readonly #stopFallback: () => void;
  #waiting = 0;
  #stopped = false;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#clock = options.clock ?? monotonicClock;
    this.#stopFallback = every(this.#clock, options.pollFallbackMs, () => this.wakeAll());
  }

  /**
   * @returns when there is a run, the wait has passed, or the caller has left
   * @throws {RpcError} OVERLOADED or SHUTTING_DOWN
   */
  async poll(request: Poll): Promise<PollResult> {
    if (this.#stopped) throw shuttingDown();
    if (this.#waiting >= this.#options.maxWaitingPolls) {
      throw overloaded(`${this.#options.maxWaitingPolls} polls are waiting`);
    }
    const group = this.#groupOf(request);
    let end: (result: PollResult) => void = () => undefined;
    const ended = new Promise<PollResult>((resolve) => {
      end = resolve;
    });
    const poll = new WaitingPoll(request, end);
    const stopTimer = this.#clock.after(request.waitMs, () => group.expire(poll));
    this.#waiting++;
    try {
      if (request.call.aborted) return { kind: 'empty' };
      group.add(poll);
      request.call.onAbort(() => group.drop(poll));
      return await ended;
    } finally {
      this.#waiting--;
      stopTimer();
      this.#forget(request, group);
    }
  }

  /**
   * Runs of a queue may have become claimable.
   *
   * @param workflowType of these runs; undefined when not known
   * @param runs how many
   * @returns free slots that wait for them here, counted up to `runs`
   */
  wake(queue: QueueRef, workflowType?: string, runs = 0): number {
    let waiting = 0;
    for (const group of this.#queues.get(queueKey(queue))?.values() ?? []) {
      if (workflowType !== undefined && !group.serves(workflowType)) continue;
      waiting += group.freeSlots(runs - waiting);
      group.wake();
    }
    return waiting;
  }

  /**
   * Reserves free slots for runs that are about to start: while their queue is empty, the statement that inserts them can also
   * lease them.
   */
  reserve(starts: readonly StartRun[]): Reservation {
    const slots: (WaitingPoll | null)[] = starts.map(() => null);
    const groups: { readonly group: ClaimGroup; readonly places: readonly number[] }[] = [];
    for (const places of placesByTarget(starts).values()) {
      const [first] = places.map((place) => starts[place] as StartRun);
      if (first === undefined) continue;
      let next = 0;
      for (const group of this.#queues.get(queueKey(first))?.values() ?? []) {
        if (next >= places.length) break;
        if (!group.serves(first.workflowType)) continue;
        const polls = group.reserve(places.length - next);
        const taken = places.slice(next, next + polls.length);
        taken.forEach((place, index) => {
          slots[place] = polls[index] as WaitingPoll;
        });
        next += polls.length;
        if (taken.length > 0) groups.push({ group, places: taken });
      }
    }
    return {
      slots,
      settle: (claims) => settleGroups(groups, slots, claims),
    };
  }

  /** A run is suspended, and a worker keeps it in memory. */
  kept(runId: string, keeper: RunKeeper): void {
    this.#kept.remember(runId, keeper);
  }

  /**
   * Reserves free slots of the workers that keep the runs in memory: the statement that wakes a run can also lease it.
   *
   * @returns undefined when there is none
   */
  reserveKeepers(runIds: readonly string[]): Reservation | undefined {
    const slots: (WaitingPoll | null)[] = runIds.map(() => null);
    const groups: { readonly group: ClaimGroup; readonly places: readonly number[] }[] = [];
    for (const { keepers, places } of this.#keepersOf(runIds)) {
      const [first] = keepers as [RunKeeper];
      let left = places.map((place, index) => ({ place, workerId: (keepers[index] as RunKeeper).workerId }));
      for (const group of this.#queues.get(queueKey(first))?.values() ?? []) {
        if (left.length === 0) break;
        if (!group.serves(first.workflowType)) continue;
        const polls = group.reserveOf(left.map(({ workerId }) => workerId));
        const taken = left.filter((_, index) => polls[index] !== undefined);
        left.forEach(({ place }, index) => {
          slots[place] = polls[index] ?? null;
        });
        left = left.filter(({ place }) => slots[place] === null);
        if (taken.length > 0) groups.push({ group, places: taken.map(({ place }) => place) });
      }
    }
    if (groups.length === 0) return undefined;
    return {
      slots,
      settle: (claims) => {
        for (const claim of claims) if (claim !== null && claim !== undefined) this.#kept.forget(claim.run.runId);
        settleGroups(groups, slots, claims);
      },
    };
  }

  /** The run is with no worker any more: when it was a suspect, its worker may be given another one. */
  left(runId: string): void {
    const queue = this.#suspects.left(runId);
    if (queue !== undefined) this.wake(queue);
  }

  /** Polls that have looked, found nothing and wait for a run; of one queue, or of all. */
  waitingPolls(queue?: QueueRef): number {
    const groups = queue === undefined ? [...this.#queues.values()] : [this.#queues.get(queueKey(queue)) ?? new Map()];
    let waiting = 0;
    for (const byTypes of groups) for (const group of byTypes.values()) waiting += group.waitingPolls;
    return waiting;
  }

  /** Something may have been missed: every group looks. */
  wakeAll(): void {
    for (const groups of this.#queues.values()) for (const group of groups.values()) group.wake();
  }

  /** Ends the polls of a worker that drains or deregisters. */
  releaseWorker(workerId: string): void {
    for (const groups of this.#queues.values()) for (const group of groups.values()) group.release(workerId);
  }

  /** Ends all polls, without a run, and refuses new ones. */
  stop(): void {
    this.#stopped = true;
    this.#stopFallback();
    for (const groups of this.#queues.values()) for (const group of groups.values()) group.release(undefined);
  }

  /** Keepers of different runs, by queue and type; `places` are those of the runs. */
  #keepersOf(runIds: readonly string[]): Iterable<{ readonly keepers: RunKeeper[]; readonly places: number[] }> {
    const byTarget = new Map<string, { readonly keepers: RunKeeper[]; readonly places: number[] }>();
    const seen = new Set<string>();
    runIds.forEach((runId, place) => {
      const keeper = this.#kept.keeperOf(runId);
      if (keeper === undefined || seen.has(runId)) return;
      seen.add(runId);
      const key = `${queueKey(keeper)}\n${keeper.workflowType}`;
      const target = byTarget.get(key) ?? { keepers: [], places: [] };
      target.keepers.push(keeper);
      target.places.push(place);
      byTarget.set(key, target);
    });
    return byTarget.values();
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
      const { db, onUndeliverable } = this.#options;
      group = new ClaimGroup(
        db,
        { namespace, taskQueue, workflowTypes },
        { onUndeliverable, suspects: this.#suspects, kept: this.#kept },
      );
      groups.set(typesKey, group);
    }
    return group;
  }

  #forget(request: Poll, group: ClaimGroup): void {
    if (group.size > 0) return;
    const groups = this.#queues.get(queueKey(request));
    if (groups === undefined) return;
    for (const [typesKey, candidate] of groups) if (candidate === group) groups.delete(typesKey);
    if (groups.size === 0) this.#queues.delete(queueKey(request));
  }
}

/** Slots for a batch of runs that start or wake. */
export interface Reservation {
  /** A slot for each run, or null. */
  readonly slots: readonly (StartSlot | null)[];
  /**
   * Gives the slots back; call it once.
   *
   * @param claims for each run its claim, if it was leased to the slot, or null
   */
  settle(claims: readonly (ClaimedRun | null)[]): void;
}

/** Gives the slots of each group back, with the claims of their runs. */
function settleGroups(
  groups: readonly { readonly group: ClaimGroup; readonly places: readonly number[] }[],
  slots: readonly (WaitingPoll | null)[],
  claims: readonly (ClaimedRun | null)[],
): void {
  for (const { group, places } of groups) {
    group.settleReserved(
      places.map((place) => slots[place] as WaitingPoll),
      places.map((place) => claims[place] ?? null),
    );
  }
}

/** Indexes of the starts that may be leased, by queue and type. */
function placesByTarget(starts: readonly StartRun[]): Map<string, number[]> {
  const byTarget = new Map<string, number[]>();
  starts.forEach((start, place) => {
    if (start.startDelayMs > 0 || isGuarded(start)) return;
    const key = `${queueKey(start)}\n${start.workflowType}`;
    const places = byTarget.get(key);
    if (places === undefined) byTarget.set(key, [place]);
    else places.push(place);
  });
  return byTarget;
}

/** Names have no control characters, so the key is unambiguous. */
const queueKey = (queue: QueueRef): string => `${queue.namespace}\n${queue.taskQueue}`;
