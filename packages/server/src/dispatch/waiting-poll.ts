import type { ClaimedRun, ClaimOutcome } from '@perdure/store';
import { MAX_POLL_BYTES } from '../limits.js';
import { fitAnswer } from './fit-answer.js';
import type { SlotTaker } from './share-slots.js';

/** The result of a poll. */
export type PollResult =
  | { readonly kind: 'claimed'; readonly claims: readonly ClaimedRun[] }
  | { readonly kind: 'empty' }
  | { readonly kind: 'worker_not_registered' }
  | { readonly kind: 'worker_draining' }
  | { readonly kind: 'failed'; readonly error: unknown };

/** What came of one slot. */
export type SlotOutcome =
  | ClaimOutcome
  | { readonly kind: 'empty' }
  | { readonly kind: 'failed'; readonly error: unknown };

export interface PollSlots {
  readonly workerId: string;
  /** Free slots of the worker that it fills. */
  readonly maxRuns: number;
  /** The worker's lease, as registered. */
  readonly leaseMs: number;
}

const EMPTY: PollResult = { kind: 'empty' };

/**
 * waiting: runs may be claimed for it.
 * expired: its wait has passed; it ends with the statement in flight, or with its first one.
 * gone: its caller has left; it must not get a run, and ends with the statement in flight.
 * ended: it has been answered.
 */
type Phase = 'waiting' | 'expired' | 'gone' | 'ended';

/**
 * A poll that waits for runs, as a state machine: slots are reserved for statements in flight, each is given back with an
 * outcome, and the poll ends once, with the first runs or without any. It never ends while a slot is reserved, because the
 * statement in flight may lease a run to it.
 */
export class WaitingPoll implements PollSlots, SlotTaker {
  readonly workerId: string;
  readonly maxRuns: number;
  readonly leaseMs: number;
  readonly #onEnd: (result: PollResult) => void;
  #phase: Phase = 'waiting';
  #reserved = 0;
  /** At least one claim has run for this poll, or the queue is known to be empty. */
  #tried = false;
  #claims: ClaimedRun[] = [];
  #refusal: PollResult | undefined;

  /** @param onEnd called once */
  constructor({ workerId, maxRuns, leaseMs }: PollSlots, onEnd: (result: PollResult) => void) {
    this.workerId = workerId;
    this.maxRuns = maxRuns;
    this.leaseMs = leaseMs;
    this.#onEnd = onEnd;
  }

  get ended(): boolean {
    return this.#phase === 'ended';
  }

  /** Slots that have no run and are not reserved. */
  get free(): number {
    return this.#phase === 'waiting' ? this.maxRuns - this.#reserved - this.#claims.length : 0;
  }

  /** Slots that a claim may reserve: the free ones; or one, for the first claim of a poll that expired before it. */
  get takes(): number {
    if (this.#phase === 'expired' && !this.#tried && this.#reserved === 0) return 1;
    return this.free;
  }

  /** Waiting, and no statement is in flight for it. */
  get idle(): boolean {
    return this.#phase === 'waiting' && this.#reserved === 0;
  }

  /** A look has found nothing for it, and it waits for a run to come. */
  get waits(): boolean {
    return this.idle && this.#tried;
  }

  /** A statement begins that may bring a run for it. */
  reserve(): void {
    if (this.takes === 0) throw this.#bug('has no slot to reserve');
    this.#reserved++;
  }

  /** Gives a reserved slot back with its outcome. */
  give(outcome: SlotOutcome): void {
    if (this.#reserved === 0) throw this.#bug('was given an outcome without a reserved slot');
    this.#reserved--;
    this.#tried = true;
    if (outcome.kind === 'claimed') this.#claims.push(outcome.claim);
    else if (outcome.kind !== 'empty') this.#refusal = outcome;
  }

  /**
   * To be called when all outcomes of a statement are given: ends the poll if there is a reason.
   *
   * @returns runs that did not fit the answer, or whose caller has left: other polls must take them
   */
  conclude(): readonly ClaimedRun[] {
    if (this.#phase === 'ended' || this.#reserved > 0) return [];
    const claims = this.#claims;
    this.#claims = [];
    if (claims.length > 0) {
      if (this.#phase === 'gone') {
        this.#end(EMPTY);
        return claims;
      }
      const { fits, rest } = fitAnswer(claims, MAX_POLL_BYTES);
      this.#end({ kind: 'claimed', claims: fits });
      return rest;
    }
    if (this.#refusal !== undefined) this.#end(this.#refusal);
    else if (this.#phase !== 'waiting') this.#end(EMPTY);
    return [];
  }

  /** Takes a run that was claimed for another poll of its worker, and ends with it. */
  accept(claim: ClaimedRun): void {
    if (!this.idle) throw this.#bug('is not idle');
    this.#end({ kind: 'claimed', claims: [claim] });
  }

  /** A claim has found the queue empty. */
  onQueueEmpty(): void {
    this.#tried = true;
    if (this.#phase === 'expired' && this.#reserved === 0) this.#end(EMPTY);
  }

  /** Its wait has passed. */
  expire(): void {
    if (this.#phase !== 'waiting') return;
    this.#phase = 'expired';
    if (this.#tried && this.#reserved === 0) this.#end(EMPTY);
  }

  /** Its worker gets no more runs, or the server stops: like {@link expire}, without a first claim. */
  release(): void {
    this.#tried = true;
    if (this.#phase === 'expired' && this.#reserved === 0) this.#end(EMPTY);
    else this.expire();
  }

  /** Its caller has left. */
  drop(): void {
    if (this.#phase === 'ended') return;
    this.#phase = 'gone';
    if (this.#reserved === 0) this.#end(EMPTY);
  }

  #end(result: PollResult): void {
    if (this.#phase === 'ended' || this.#reserved > 0) throw this.#bug('cannot end now');
    this.#phase = 'ended';
    this.#onEnd(result);
  }

  #bug(what: string): Error {
    const state = `${this.#phase}, ${this.#reserved} of ${this.maxRuns} slots reserved`;
    return new Error(`A bug in Perdure: a poll of worker ${this.workerId} ${what} (${state}).`);
  }
}
