import { type ClaimedRun, type ClaimOutcome, type ClaimRuns, claimRuns, type Database } from '@perdure/store';
import { MEMO_PAGE_LIMITS } from '../limits.js';

/** What a poll ends with. */
export type PollResult =
  | { readonly kind: 'claimed'; readonly claim: ClaimedRun }
  | { readonly kind: 'empty' }
  | { readonly kind: 'worker_not_registered' }
  | { readonly kind: 'worker_draining' }
  | { readonly kind: 'failed'; readonly error: unknown };

/** One long poll that waits for a run. */
export class WaitingPoll {
  readonly workerId: string;
  readonly result: Promise<PollResult>;
  #resolve: (result: PollResult) => void = () => undefined;
  /** Part of a claim under way, so it cannot just be dropped. */
  inClaim = false;
  /** A claim has looked for it at least once. */
  tried = false;
  /** Its wait is over: it ends with the claim under way, or with its first one. */
  expired = false;
  /** Its caller is gone: it must not be handed a run. */
  gone = false;

  constructor(workerId: string) {
    this.workerId = workerId;
    this.result = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  settle(result: PollResult): void {
    this.#resolve(result);
  }
}

const FIRST_CLAIM_SLOTS = 16;
/** Bounds what one claim brings into memory: the first memo page of each run comes with it. */
const MAX_CLAIM_SLOTS = 128;

/**
 * Polls that may be served together: same namespace, queue and types, in order of arrival. One claim is in flight at a time;
 * whatever may have brought new runs meanwhile makes it dirty, and a dirty group claims again. So a run that is committed
 * before `wake` is called is seen by a claim that starts after it.
 */
export class ClaimGroup {
  readonly #db: Database;
  readonly #target: Omit<ClaimRuns, 'slots'>;
  readonly #onUndeliverable: (claim: ClaimedRun) => void;
  readonly #polls = new Set<WaitingPoll>();
  #claiming = false;
  #dirty = false;

  /** @param onUndeliverable called with a run whose poll was gone when the claim came back */
  constructor(db: Database, target: Omit<ClaimRuns, 'slots'>, onUndeliverable: (claim: ClaimedRun) => void) {
    this.#db = db;
    this.#target = target;
    this.#onUndeliverable = onUndeliverable;
  }

  get waiting(): number {
    return this.#polls.size;
  }

  serves(workflowType: string): boolean {
    return this.#target.workflowTypes.includes(workflowType);
  }

  add(poll: WaitingPoll): void {
    this.#polls.add(poll);
    this.wake();
  }

  /** The poll's wait is over. */
  expire(poll: WaitingPoll): void {
    if (poll.inClaim || !poll.tried) poll.expired = true;
    else this.#end(poll, { kind: 'empty' });
  }

  /** The poll's caller has gone. */
  drop(poll: WaitingPoll): void {
    poll.gone = true;
    if (!poll.inClaim) this.#end(poll, { kind: 'empty' });
  }

  /** Ends the polls of one worker, or all; those in a claim end with it. */
  release(workerId: string | undefined): void {
    for (const poll of [...this.#polls]) {
      if (workerId !== undefined && poll.workerId !== workerId) continue;
      if (poll.inClaim) poll.expired = true;
      else this.#end(poll, { kind: 'empty' });
    }
  }

  /** There may be runs to claim. */
  wake(): void {
    this.#dirty = true;
    if (!this.#claiming && this.#polls.size > 0) void this.#claim();
  }

  async #claim(): Promise<void> {
    this.#claiming = true;
    let slots = FIRST_CLAIM_SLOTS;
    while (this.#dirty && this.#polls.size > 0) {
      this.#dirty = false;
      const polls = this.#take(slots);
      const outcomes = await this.#claimFor(polls);
      let claimed = 0;
      polls.forEach((poll, index) => {
        const outcome = outcomes[index] as PollResult;
        if (outcome.kind === 'claimed') claimed++;
        this.#deliver(poll, outcome);
      });
      // All slots got a run: there may be more. Not all did: the queue was empty but for runs locked by other servers.
      if (claimed === polls.length) this.#dirty = true;
      slots = Math.min(slots * 2, MAX_CLAIM_SLOTS);
    }
    this.#claiming = false;
  }

  #take(slots: number): WaitingPoll[] {
    const polls: WaitingPoll[] = [];
    for (const poll of this.#polls) {
      if (polls.length >= slots) break;
      poll.inClaim = true;
      polls.push(poll);
    }
    return polls;
  }

  async #claimFor(polls: readonly WaitingPoll[]): Promise<readonly (ClaimOutcome | PollResult)[]> {
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

  #deliver(poll: WaitingPoll, outcome: PollResult): void {
    poll.inClaim = false;
    poll.tried = true;
    if (outcome.kind !== 'empty') {
      if (!poll.gone) this.#end(poll, outcome);
      else {
        this.#end(poll, { kind: 'empty' });
        if (outcome.kind === 'claimed') this.#redirect(poll.workerId, outcome.claim);
      }
    } else if (poll.gone || poll.expired) this.#end(poll, outcome);
    else {
      // To the back of the line: with fewer runs than slots, the others get their look too.
      this.#polls.delete(poll);
      this.#polls.add(poll);
    }
  }

  /** The lease belongs to the worker: another poll of the same worker may take the run. */
  #redirect(workerId: string, claim: ClaimedRun): void {
    for (const other of this.#polls) {
      if (other.workerId === workerId && !other.inClaim && !other.gone) {
        this.#end(other, { kind: 'claimed', claim });
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
