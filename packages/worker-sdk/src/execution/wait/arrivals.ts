import { type Arrival, msOf } from '@perdure/proto';
import { isDelivered, isFinal, type Memo } from '../order/memo.js';
import type { SuspensionHost } from './suspension-host.js';
import type { Waits } from './waits.js';

/** Tells the code of an outcome that came from outside, when its turn in the order of results has come. */
export type OnArrival = (arrival: Arrival, eventSeq: number) => void;

/** Most timeouts that one call names; the others follow. */
const MAX_DUE_STEPS = 1_000;
/** The place of what a claim has taken. */
const FIRST_PLACE = 1;

/**
 * Takes what has come from outside for the steps of a run: each outcome gets its place in the order of results first, then the code
 * is told (decision 0020). One call takes everything that has arrived; it is sent when the code stands still and nothing recorded is left
 * to deliver.
 */
export class Arrivals {
  readonly #host: SuspensionHost;
  readonly #waits: Waits;
  /** Taken before the code has requested them. */
  readonly #unclaimed = new Map<string, { readonly arrival: Arrival; readonly eventSeq: number }>();
  readonly #timedOut = new Set<string>();
  /** How to tell the code what comes for a step. */
  readonly #expected = new Map<string, OnArrival>();
  #hasArrived: boolean;
  /** Before the memo is loaded there is no order of results in which anything could have a place. */
  #isMemoLoaded = false;
  #isTaking = false;
  /** The end of the call under way. */
  #taken: Promise<void> = Promise.resolve();
  /** Cancels of waits under way: each finds out whether something arrived first. */
  #holds = 0;

  /** @param hasArrived the claim says that there is something to take */
  constructor(host: SuspensionHost, waits: Waits, hasArrived: boolean) {
    this.#host = host;
    this.#waits = waits;
    this.#hasArrived = hasArrived;
  }

  /** There is something to take, or to ask for. */
  get isPending(): boolean {
    return this.#hasArrived || this.#timedOut.size > 0;
  }

  /** A cancel of waits for arrivals has to wait until it is known what has come before it. */
  get isTaking(): boolean {
    return this.#isTaking;
  }

  /** The server says that something has arrived. */
  hint(): void {
    this.#hasArrived = true;
    this.#host.delivery.recheck();
  }

  /** The claim of a run that continues without a replay has taken these: their place is the first one of the lease. */
  given(arrivals: readonly Arrival[]): void {
    if (arrivals.length === 0) return;
    this.#host.delivery.reserve().readyAll(arrivals.map((arrival) => this.#deliveryOf(arrival, FIRST_PLACE)));
  }

  /** The timeout of a wait has passed by this worker's clock. */
  timedOut(stepId: string): void {
    this.#timedOut.add(stepId);
    this.#host.delivery.recheck();
  }

  /** The code requests a step whose outcome was taken before it did. @returns whether it was */
  claim(stepId: string, onArrival: OnArrival): boolean {
    const taken = this.#unclaimed.get(stepId);
    if (taken === undefined) return false;
    this.#unclaimed.delete(stepId);
    this.#host.delivery.enqueue(() => onArrival(taken.arrival, taken.eventSeq));
    return true;
  }

  /**
   * From now on the outcome of the step is told in this way when it was taken: from before its wait begins until after it has ended,
   * because the answers to calls may pass each other.
   */
  expect(stepId: string, onArrival: OnArrival): void {
    this.#expected.set(stepId, onArrival);
  }

  /** Whether {@link expect} still holds: the outcome was not taken. */
  isExpected(stepId: string): boolean {
    return this.#expected.has(stepId);
  }

  /** The step ends in another way. */
  forget(stepId: string): void {
    this.#expected.delete(stepId);
  }

  /** Something has come for the step: tells the code, once it is taken. */
  takeFor(stepId: string, onArrival: OnArrival): void {
    if (this.claim(stepId, onArrival)) return;
    this.expect(stepId, onArrival);
    this.hint();
  }

  /**
   * Cancels a wait, unless something has arrived for it. Nothing is taken meanwhile.
   *
   * @param settle records the cancel; false: an outcome was there first
   * @returns false in that case: it has to be taken; true when the code is told, of the outcome or of the cancel
   */
  async cancelWait(stepId: string, settle: () => Promise<boolean>): Promise<boolean> {
    this.#holds++;
    try {
      while (this.#isTaking) await this.#taken;
      if (!this.isExpected(stepId)) return true;
      if (!(await settle())) return false;
      this.forget(stepId);
      return true;
    } finally {
      this.#holds--;
      if (this.isPending) this.#host.delivery.recheck();
    }
  }

  /** The memo is loaded, and is about to be delivered. */
  onReplay(memo: Memo): void {
    this.#isMemoLoaded = true;
    for (const entry of memo.entries.values()) if (isFinal(entry) && !isDelivered(entry)) this.#hasArrived = true;
    if (this.isPending) this.#host.delivery.recheck();
  }

  /** Nothing else is left to deliver. @returns true when it takes, or will take when what it waits for has ended */
  onIdle(): boolean {
    if (!this.isPending || !this.#isMemoLoaded) return false;
    if (!this.#isTaking && this.#holds === 0) void this.#host.faults.guard(() => this.take());
    return true;
  }

  /** Takes what there is now. */
  take(): Promise<void> {
    this.#taken = this.#take();
    return this.#taken;
  }

  async #take(): Promise<void> {
    const { delivery, calls, work } = this.#host;
    const dueStepIds = [...this.#timedOut].slice(0, MAX_DUE_STEPS);
    for (const stepId of dueStepIds) this.#timedOut.delete(stepId);
    this.#hasArrived = false;
    this.#isTaking = true;
    const ticket = delivery.reserve();
    const answer = await work.during(() =>
      calls.call('takeArrivals', { eventSeq: ticket.eventSeq, dueStepIds }).finally(() => {
        this.#isTaking = false;
      }),
    );
    if (answer.hasMore) this.#hasArrived = true;
    ticket.readyAll(answer.arrivals.map((arrival) => this.#deliveryOf(arrival, ticket.eventSeq)));
    for (const { stepId, remaining } of answer.notDue) this.#waits.rearm(stepId, msOf(remaining) ?? 0);
    this.#host.onArrivalsTaken();
  }

  #deliveryOf(arrival: Arrival, eventSeq: number): () => void {
    const { stepId } = arrival;
    const onArrival = this.#expected.get(stepId);
    if (onArrival !== undefined) {
      this.#expected.delete(stepId);
      this.#waits.arrived(stepId);
      return () => onArrival(arrival, eventSeq);
    }
    this.#unclaimed.set(stepId, { arrival, eventSeq });
    return () => undefined;
  }
}
