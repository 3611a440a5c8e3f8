import { ChurningSet } from '@perdure/collections';
import { type ClaimedRun, type ClaimRuns, claimRuns, type Database, SUSPECT_LOSSES } from '@perdure/store';
import { MEMO_PAGE_LIMITS } from '../limits.js';
import type { KeptRuns } from './kept-runs.js';
import { shareSlots } from './share-slots.js';
import type { Suspects } from './suspects.js';
import type { SlotOutcome, WaitingPoll } from './waiting-poll.js';

const FIRST_CLAIM_SLOTS = 16;
/** Bounds the memory of one claim, which has the first memo page of each run. */
const MAX_CLAIM_SLOTS = 128;

export interface ClaimGroupHost {
  /** Told of a run whose poll was gone when the claim came back. */
  readonly onUndeliverable: (claim: ClaimedRun) => void;
  readonly suspects: Suspects;
  readonly kept: KeptRuns;
}

/**
 * Polls that may be served together: same namespace, queue and types, in order of arrival. One claim is in flight at a time.
 * Anything that may have made runs claimable meanwhile marks the group dirty, and a dirty group claims again. So a run that is
 * committed before `wake` is called is seen by a claim that starts after it.
 *
 * A group that is not dirty has found its queue empty since the last wake-up: its polls just wait, and a run that starts here
 * may be leased to one of them without a claim.
 */
export class ClaimGroup {
  readonly #db: Database;
  readonly #target: Omit<ClaimRuns, 'slots'>;
  readonly #host: ClaimGroupHost;
  readonly #polls = new ChurningSet<WaitingPoll>();
  /** Those that came since the last look: it is theirs, whether a claim has a slot for them or not. */
  readonly #unserved = new ChurningSet<WaitingPoll>();
  #claiming = false;
  #dirty = true;

  constructor(db: Database, target: Omit<ClaimRuns, 'slots'>, host: ClaimGroupHost) {
    this.#db = db;
    this.#target = target;
    this.#host = host;
  }

  /** Polls in the group, with those in a statement in flight. */
  get size(): number {
    return this.#polls.size;
  }

  /** Free slots of its polls, counted up to `enough`: there may be thousands of polls. */
  freeSlots(enough: number): number {
    let free = 0;
    for (const poll of this.#polls) {
      if (free >= enough) break;
      free += poll.free;
    }
    return free;
  }

  /** Polls that have looked and found nothing. */
  get waitingPolls(): number {
    let waiting = 0;
    for (const poll of this.#polls) if (poll.waits) waiting++;
    return waiting;
  }

  serves(workflowType: string): boolean {
    return this.#target.workflowTypes.includes(workflowType);
  }

  add(poll: WaitingPoll): void {
    this.#polls.add(poll);
    if (this.#dirty) {
      this.#unserved.add(poll);
      this.#claimUnlessClaiming();
    } else poll.onQueueEmpty();
  }

  /** The wait of the poll has passed. */
  expire(poll: WaitingPoll): void {
    poll.expire();
    this.#forgetIfEnded(poll);
  }

  /** The caller of the poll has left. */
  drop(poll: WaitingPoll): void {
    poll.drop();
    this.#forgetIfEnded(poll);
  }

  /** Ends the polls of one worker, or all polls; those in a statement in flight end with it. */
  release(workerId: string | undefined): void {
    for (const poll of [...this.#polls]) {
      if (workerId !== undefined && poll.workerId !== workerId) continue;
      poll.release();
      this.#forgetIfEnded(poll);
    }
  }

  /** There may be runs to claim. */
  wake(): void {
    this.#dirty = true;
    this.#claimUnlessClaiming();
  }

  /**
   * Reserves slots for runs that are about to start, when no run in the queue can be before them. Each must be given back
   * with {@link settleReserved}.
   *
   * @returns a poll for each slot, at most `count`; workers get equal shares
   */
  reserve(count: number): WaitingPoll[] {
    return this.#dirty || this.#claiming ? [] : this.#take(count);
  }

  /**
   * Reserves slots of certain workers, for runs that they keep in memory. A claim in flight does not matter: it has its own slots.
   *
   * @param workerIds one for each run
   * @returns for each a poll of the worker, or undefined; each poll must be given back with {@link settleReserved}
   */
  reserveOf(workerIds: readonly string[]): (WaitingPoll | undefined)[] {
    if (this.#dirty) return [];
    const free = this.#idlePollsOf(workerIds);
    return workerIds.map((workerId) => {
      const own = free.get(workerId) ?? [];
      while (own[0]?.free === 0) own.shift();
      own[0]?.reserve();
      return own[0];
    });
  }

  /**
   * Gives reserved slots back with their outcomes.
   *
   * @param claims for each slot the run that is now leased to its worker, or null
   */
  settleReserved(polls: readonly WaitingPoll[], claims: readonly (ClaimedRun | null)[]): void {
    this.#deliver(
      polls,
      claims.map((claim) => (claim === null ? { kind: 'empty' } : { kind: 'claimed', claim })),
    );
  }

  #claimUnlessClaiming(): void {
    if (!this.#claiming && this.#polls.size > 0) void this.#claim();
  }

  async #claim(): Promise<void> {
    this.#claiming = true;
    let slots = FIRST_CLAIM_SLOTS;
    while (this.#dirty) {
      const polls = this.#take(slots);
      if (polls.length === 0) break;
      this.#dirty = false;
      const outcomes = await this.#claimFor(polls);
      // Every slot got a run, so there may be more. Otherwise the queue is empty, except for runs that other statements have locked.
      if (!outcomes.some(({ kind }) => kind === 'empty')) this.#dirty = true;
      this.#deliver(polls, outcomes);
      if (outcomes.some(({ kind }) => kind === 'failed')) break;
      slots = Math.min(slots * 2, MAX_CLAIM_SLOTS);
    }
    this.#claiming = false;
    if (!this.#dirty) this.#onQueueEmpty();
  }

  /** The queue is empty, also for the polls that no claim had a slot for. */
  #onQueueEmpty(): void {
    for (const poll of [...this.#unserved]) {
      this.#unserved.delete(poll);
      poll.onQueueEmpty();
      this.#forgetIfEnded(poll);
    }
  }

  #take(count: number): WaitingPoll[] {
    const taken = shareSlots(this.#polls, count);
    for (const poll of taken) poll.reserve();
    return taken;
  }

  /** By worker. Polls that no statement is in flight for, so that no claim has to wait for this one. */
  #idlePollsOf(workerIds: readonly string[]): ReadonlyMap<string, WaitingPoll[]> {
    const byWorker = new Map<string, WaitingPoll[]>(workerIds.map((workerId) => [workerId, []]));
    for (const poll of this.#polls) if (poll.idle) byWorker.get(poll.workerId)?.push(poll);
    return byWorker;
  }

  async #claimFor(polls: readonly WaitingPoll[]): Promise<readonly SlotOutcome[]> {
    try {
      const outcomes = await claimRuns(
        this.#db,
        { ...this.#target, slots: polls.map(({ workerId }) => ({ workerId })) },
        MEMO_PAGE_LIMITS,
      );
      for (const outcome of outcomes) {
        if (outcome.kind !== 'claimed') continue;
        const { runId, lostLeases } = outcome.claim.run;
        this.#host.kept.forget(runId);
        if (lostLeases >= SUSPECT_LOSSES) this.#host.suspects.leased(runId, this.#target);
      }
      return outcomes;
    } catch (error) {
      return polls.map(() => ({ kind: 'failed', error }));
    }
  }

  #deliver(polls: readonly WaitingPoll[], outcomes: readonly SlotOutcome[]): void {
    polls.forEach((poll, index) => {
      poll.give(outcomes[index] as SlotOutcome);
    });
    for (const poll of new Set(polls)) {
      const rest = poll.conclude();
      if (poll.ended) this.#unserved.delete(poll);
      if (poll.ended || poll.idle) this.#polls.delete(poll);
      // To the end of the queue: with fewer runs than slots, the other polls must get their claim too.
      if (poll.idle) this.#polls.add(poll);
      for (const claim of rest) this.#redirect(poll.workerId, claim);
    }
  }

  /** The lease belongs to the worker, so another poll of the same worker may take the run. */
  #redirect(workerId: string, claim: ClaimedRun): void {
    for (const other of this.#polls) {
      if (other.workerId === workerId && other.idle) {
        other.accept(claim);
        this.#forgetIfEnded(other);
        return;
      }
    }
    this.#host.onUndeliverable(claim);
  }

  #forgetIfEnded(poll: WaitingPoll): void {
    if (!poll.ended) return;
    this.#polls.delete(poll);
    this.#unserved.delete(poll);
  }
}
