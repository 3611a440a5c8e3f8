import type { LeasedRun } from '@perdure/proto';
import { type Clock, monotonicClock } from '../../clock.js';
import type { Arrivals } from './arrivals.js';
import type { SuspensionHost } from './suspension-host.js';
import type { PendingWait, Waits } from './waits.js';

/** A run is not suspended for a wait that ends this soon, in ms. */
const IN_PLACE_MS = 200;
/** Waits that a suspension names: those that end first. The others are found when the run is claimed again. */
const MAX_NAMED_WAITS = 1_000;

const WAIT_KINDS = { TIMER: 'timer', RETRY: 'retry', ARRIVAL: 'timeout' } as const;

type State =
  | { readonly kind: 'live' }
  /** SuspendRun is on its way. */
  | { readonly kind: 'suspending' }
  /** The lease is given back, and the code has not run since. */
  | { readonly kind: 'suspended' };

const LIVE: State = { kind: 'live' };

/**
 * Suspends a run when everything in it awaits time or something from outside, and resumes it when this worker claims it again. In
 * between its code stays in memory; losing that memory loses nothing.
 */
export class Suspension {
  readonly #host: SuspensionHost;
  readonly #waits: Waits;
  readonly #arrivals: Arrivals;
  readonly #clock: Clock;
  #state: State = LIVE;

  constructor(host: SuspensionHost, waits: Waits, arrivals: Arrivals, clock: Clock = monotonicClock) {
    this.#host = host;
    this.#waits = waits;
    this.#arrivals = arrivals;
    this.#clock = clock;
  }

  /** The run is neither suspended nor about to be. */
  get isLive(): boolean {
    return this.#state.kind === 'live';
  }

  get isSuspended(): boolean {
    return this.#state.kind === 'suspended';
  }

  /** There is nothing to deliver: takes what has arrived, or suspends the run when it does no work and awaits something. */
  onIdle(): void {
    if (this.#state.kind !== 'live' || this.#arrivals.onIdle()) return;
    if (!this.#host.isIdle || this.#waits.size === 0) return;
    const waits = this.#waits.list();
    let earliestAtMs = Number.POSITIVE_INFINITY;
    for (const wait of waits) earliestAtMs = Math.min(earliestAtMs, wait.dueAtMs);
    if (earliestAtMs - this.#clock.nowMs() <= IN_PLACE_MS) return;
    this.#state = { kind: 'suspending' };
    const { calls } = this.#host;
    void this.#host.faults.guard(() => calls.exclusively(() => this.#suspend(waits)));
  }

  async #suspend(awaited: readonly PendingWait[]): Promise<void> {
    const host = this.#host;
    const waits = firstToEnd(awaited).map(({ stepId, on }) => ({ stepId, kind: { case: WAIT_KINDS[on], value: {} } }));
    const arrivalsAwaited = awaited.some(({ on }) => on === 'ARRIVAL') ? 1 : 0;
    let childrenAwaited = 0;
    for (const { isChild } of awaited) if (isChild) childrenAwaited++;
    const answer = await host.calls.call(
      'suspendRun',
      { waits, arrivalsAwaited, childrenAwaited, isKept: host.isKept },
      { gated: false },
    );
    if (answer.suspended) {
      // What the code requested while the answer was on its way was sent under a lease that is over: it gets no answer.
      if (!host.isIdle || !isSame(this.#waits.list(), awaited)) {
        host.forget();
        return;
      }
      this.#state = { kind: 'suspended' };
      this.#waits.pause();
      host.onSuspended();
      return;
    }
    this.#state = LIVE;
    if (answer.hasArrivals) this.#arrivals.hint();
    if (answer.cancelRequested) host.cancel();
    this.#waits.due(answer.readyStepIds);
    host.delivery.recheck();
  }

  /**
   * The run is held again, and no other worker has held it since: only what was awaited may have changed, and the cancel request, which
   * comes after what has arrived.
   */
  resume(leased: LeasedRun): void {
    this.#state = LIVE;
    this.#arrivals.given(leased.arrivals);
    if (leased.hasArrivals) this.#arrivals.hint();
    this.#waits.resume();
    if (leased.cancelRequested) this.#host.cancel();
    this.#host.delivery.recheck();
  }
}

function firstToEnd(waits: readonly PendingWait[]): readonly PendingWait[] {
  const timed = waits.filter(({ dueAtMs }) => dueAtMs !== Number.POSITIVE_INFINITY);
  if (timed.length <= MAX_NAMED_WAITS) return timed;
  return timed.sort((a, b) => a.dueAtMs - b.dueAtMs).slice(0, MAX_NAMED_WAITS);
}

function isSame(waits: readonly PendingWait[], others: readonly PendingWait[]): boolean {
  return waits.length === others.length && waits.every((wait, index) => wait === others[index]);
}
