import { ChurningSet } from '@perdure/collections';
import { type ClaimedRun, type ClaimOutcome, type ClaimRuns, claimRuns, type Database } from '@perdure/store';
import { MAX_POLL_BYTES, MEMO_PAGE_LIMITS } from '../limits.js';
import type { PollResult, WaitingPoll } from './waiting-poll.js';

const FIRST_CLAIM_SLOTS = 16;
/** Bounds what one claim brings into memory: the first memo page of each run comes with it. */
const MAX_CLAIM_SLOTS = 128;

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
  readonly #onUndeliverable: (claim: ClaimedRun) => void;
  readonly #polls = new ChurningSet<WaitingPoll>();
  #claiming = false;
  #dirty = true;

  /** @param onUndeliverable called with a run whose poll was gone when the claim came back */
  constructor(db: Database, target: Omit<ClaimRuns, 'slots'>, onUndeliverable: (claim: ClaimedRun) => void) {
    this.#db = db;
    this.#target = target;
    this.#onUndeliverable = onUndeliverable;
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

  serves(workflowType: string): boolean {
    return this.#target.workflowTypes.includes(workflowType);
  }

  add(poll: WaitingPoll): void {
    this.#polls.add(poll);
    if (this.#dirty) this.#claimUnlessClaiming();
    else poll.tried = true;
  }

  /** The poll's wait is over. */
  expire(poll: WaitingPoll): void {
    if (poll.reserved > 0 || !poll.tried) poll.expired = true;
    else this.#end(poll, { kind: 'empty' });
  }

  /** The poll's caller has gone. */
  drop(poll: WaitingPoll): void {
    poll.gone = true;
    if (poll.reserved === 0) this.#end(poll, { kind: 'empty' });
  }

  /** Ends the polls of one worker, or all; those in a statement under way end with it. */
  release(workerId: string | undefined): void {
    for (const poll of [...this.#polls]) {
      if (workerId !== undefined && poll.workerId !== workerId) continue;
      if (poll.reserved > 0) poll.expired = true;
      else this.#end(poll, { kind: 'empty' });
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
    for (const poll of [...this.#polls]) {
      poll.tried = true;
      if (poll.expired && poll.reserved === 0) this.#end(poll, { kind: 'empty' });
    }
  }

  /** A poll per slot: each worker gets an equal share of them, from its oldest poll on. */
  #take(count: number): WaitingPoll[] {
    const byWorker = new Map<string, WaitingPoll[]>();
    for (const poll of this.#polls) {
      // A poll that has expired before its first look still gets it.
      if (poll.free === 0 && !(poll.expired && !poll.tried && poll.reserved === 0 && !poll.gone)) continue;
      const polls = byWorker.get(poll.workerId);
      if (polls === undefined) byWorker.set(poll.workerId, [poll]);
      else polls.push(poll);
      // One for each: no need to look at the thousands of polls that may follow.
      if (byWorker.size >= count) break;
    }
    const taken: WaitingPoll[] = [];
    let workers = byWorker.size;
    for (const polls of byWorker.values()) {
      let share = Math.ceil((count - taken.length) / workers--);
      for (const poll of polls) {
        const slots = Math.min(share, poll.expired ? 1 : poll.free);
        poll.reserved += slots;
        share -= slots;
        for (let slot = 0; slot < slots; slot++) taken.push(poll);
      }
    }
    return taken;
  }

  async #claimFor(polls: readonly WaitingPoll[]): Promise<readonly (ClaimOutcome | SlotFailure)[]> {
    try {
      return await claimRuns(
        this.#db,
        { ...this.#target, slots: polls.map(({ workerId }) => ({ workerId })) },
        MEMO_PAGE_LIMITS,
      );
    } catch (error) {
      return polls.map(() => ({ kind: 'failed', error }));
    }
  }

  /** A poll ends once nothing is under way for it any more, with all that came. */
  #deliver(polls: readonly WaitingPoll[], outcomes: readonly (ClaimOutcome | SlotFailure)[]): void {
    const refused = new Map<WaitingPoll, PollResult>();
    polls.forEach((poll, index) => {
      const outcome = outcomes[index] as ClaimOutcome | SlotFailure;
      poll.reserved--;
      poll.tried = true;
      if (outcome.kind === 'claimed') poll.claims.push(outcome.claim);
      else if (outcome.kind !== 'empty') refused.set(poll, outcome);
    });
    for (const poll of new Set(polls)) {
      if (poll.reserved > 0) continue;
      if (poll.claims.length > 0) this.#hand(poll);
      else if (refused.has(poll)) this.#end(poll, refused.get(poll) as PollResult);
      else if (poll.gone || poll.expired) this.#end(poll, { kind: 'empty' });
      else {
        // To the back of the line: with fewer runs than slots, the others get their look too.
        this.#polls.delete(poll);
        this.#polls.add(poll);
      }
    }
  }

  /** Ends a poll with its runs; what does not fit into an answer, or has lost its caller, is passed on. */
  #hand(poll: WaitingPoll): void {
    const claims = poll.claims.splice(0);
    let bytes = 0;
    const fits = poll.gone
      ? 0
      : claims.findIndex((claim, index) => {
          bytes += sizeOf(claim);
          return index > 0 && bytes > MAX_POLL_BYTES;
        });
    const handed = fits < 0 ? claims : claims.slice(0, fits);
    this.#end(poll, handed.length === 0 ? { kind: 'empty' } : { kind: 'claimed', claims: handed });
    for (const claim of claims.slice(handed.length)) this.#redirect(poll.workerId, claim);
  }

  /** The lease belongs to the worker: another poll of the same worker may take the run. */
  #redirect(workerId: string, claim: ClaimedRun): void {
    for (const other of this.#polls) {
      if (other.workerId === workerId && other.free > 0 && other.reserved === 0) {
        this.#end(other, { kind: 'claimed', claims: [claim] });
        return;
      }
    }
    this.#onUndeliverable(claim);
  }

  #end(poll: WaitingPoll, result: PollResult): void {
    this.#polls.delete(poll);
    poll.settle(result);
  }
}

interface SlotFailure {
  readonly kind: 'failed';
  readonly error: unknown;
}

function sizeOf({ run, memo }: ClaimedRun): number {
  return memo.reduce((sum, { output }) => sum + (output?.data.byteLength ?? 0) + 200, run.input?.data.byteLength ?? 0);
}
