import { ChurningSet } from '@perdure/collections';
import { type ClaimedRun, type ClaimRuns, claimRuns, type Database, SUSPECT_LOSSES } from '@perdure/store';
import { MEMO_PAGE_LIMITS } from '../limits.js';
import { shareSlots } from './share-slots.js';
import type { Suspects } from './suspects.js';
import type { SlotOutcome, WaitingPoll } from './waiting-poll.js';

const FIRST_CLAIM_SLOTS = 16;
/** Bounds what one claim brings into memory: the first memo page of each run comes with it. */
const MAX_CLAIM_SLOTS = 128;

export interface ClaimGroupHost {
  /** Told of a run whose poll was gone when the claim came back. */
  readonly onUndeliverable: (claim: ClaimedRun) => void;
  readonly suspects: Suspects;
}

/**
 * Polls that may be served together: same namespace, queue and types, in order of arrival. One claim is in flight at a time;
 * whatever may have brought new runs meanwhile makes it dirty, and a dirty group claims again. So a run that is committed
 * before `wake` is called is seen by a claim that starts after it.
 *
 * A group that is not dirty has looked since the last news and found nothing: its polls just wait, and a run that starts here
 * may be handed to one of them without a look at the queue.
 */
export class ClaimGroup {
  readonly #db: Database;
  readonly #target: Omit<ClaimRuns, 'slots'>;
  readonly #host: ClaimGroupHost;
  readonly #polls = new ChurningSet<WaitingPoll>();
  /** Those that came since the last look: it is theirs, whether a claim has a slot for them or not. */
  readonly #unlooked = new ChurningSet<WaitingPoll>();
  #claiming = false;
  #dirty = true;

  constructor(db: Database, target: Omit<ClaimRuns, 'slots'>, host: ClaimGroupHost) {
    this.#db = db;
    this.#target = target;
    this.#host = host;
  }

  /** Polls in it, those in a statement under way included. */
  get size(): number {
    return this.#polls.size;
  }

  /** Runs that its polls have room for now, counted up to `enough`: there may be thousands of polls. */
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
      this.#unlooked.add(poll);
      this.#claimUnlessClaiming();
    } else poll.looked();
  }

  /** The poll's wait is over. */
  expire(poll: WaitingPoll): void {
    poll.expire();
    this.#forgetIfEnded(poll);
  }

  /** The poll's caller has gone. */
  drop(poll: WaitingPoll): void {
    poll.drop();
    this.#forgetIfEnded(poll);
  }

  /** Ends the polls of one worker, or all; those in a statement under way end with it. */
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
   * Takes slots for runs that are about to start, when nothing in the queue can be in front of them. Each must be given
   * back with {@link settleReserved}.
   *
   * @returns a poll per slot, at most `count`; workers get equal shares
   */
  reserve(count: number): WaitingPoll[] {
    return this.#dirty || this.#claiming ? [] : this.#take(count);
  }

  /**
   * What became of reserved slots.
   *
   * @param claims per slot the run that is leased to its worker now, or null
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
      // No slot was left without a run: there may be more. Otherwise the queue is empty, but for runs that others have locked.
      if (!outcomes.some(({ kind }) => kind === 'empty')) this.#dirty = true;
      this.#deliver(polls, outcomes);
      if (outcomes.some(({ kind }) => kind === 'failed')) break;
      slots = Math.min(slots * 2, MAX_CLAIM_SLOTS);
    }
    this.#claiming = false;
    if (!this.#dirty) this.#looked();
  }

  /** There is nothing for those either that no claim had a slot for. */
  #looked(): void {
    for (const poll of [...this.#unlooked]) {
      this.#unlooked.delete(poll);
      poll.looked();
      this.#forgetIfEnded(poll);
    }
  }

  #take(count: number): WaitingPoll[] {
    const taken = shareSlots(this.#polls, count);
    for (const poll of taken) poll.reserve();
    return taken;
  }

  async #claimFor(polls: readonly WaitingPoll[]): Promise<readonly SlotOutcome[]> {
    try {
      const outcomes = await claimRuns(
        this.#db,
        { ...this.#target, slots: polls.map(({ workerId }) => ({ workerId })) },
        MEMO_PAGE_LIMITS,
      );
      for (const outcome of outcomes) {
        if (outcome.kind !== 'claimed' || outcome.claim.run.lostLeases < SUSPECT_LOSSES) continue;
        this.#host.suspects.leased(outcome.claim.run.runId, this.#target);
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
      if (poll.ended) this.#unlooked.delete(poll);
      if (poll.ended || poll.idle) this.#polls.delete(poll);
      // To the back of the line: with fewer runs than slots, the others get their look too.
      if (poll.idle) this.#polls.add(poll);
      for (const claim of rest) this.#redirect(poll.workerId, claim);
    }
  }

  /** The lease belongs to the worker: another poll of the same worker may take the run. */
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
    this.#unlooked.delete(poll);
  }
}
