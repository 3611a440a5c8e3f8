import { dateOf, type LeasedRun, type MemoEntry, StepStatus } from '@perdure/proto';
import { type Clock, monotonicClock } from '../../clock.js';
import { isFinal } from '../order/memo.js';
import type { SuspensionHost } from './suspension-host.js';
import type { PendingWait, Waits } from './waits.js';

/** A run is not suspended for a wait that ends this soon, in ms. */
const IN_PLACE_MS = 200;
/** Waits that a suspension names: those that end first. The others are found when the run is claimed again. */
const MAX_NAMED_WAITS = 1_000;

type State =
  | { readonly kind: 'live' }
  /** SuspendRun is on its way. */
  | { readonly kind: 'suspending' }
  /** The lease is given back, and the code has not run since. */
  | { readonly kind: 'suspended'; readonly named: readonly PendingWait[] }
  /** The run is held again; what has become of the waits is being asked. */
  | { readonly kind: 'resuming'; cancelRequested: boolean };

const LIVE: State = { kind: 'live' };

/**
 * Suspends a run when everything in it awaits time, and resumes it when this worker claims it again. In between its code
 * stays in memory; losing that memory loses nothing.
 */
export class Suspension {
  readonly #host: SuspensionHost;
  readonly #waits: Waits;
  readonly #clock: Clock;
  #state: State = LIVE;

  constructor(host: SuspensionHost, waits: Waits, clock: Clock = monotonicClock) {
    this.#host = host;
    this.#waits = waits;
    this.#clock = clock;
  }

  get isSuspended(): boolean {
    return this.#state.kind === 'suspended';
  }

  /**
   * A cancel waits until it is known which timers have fired: those come before it in every replay.
   *
   * @returns whether it does; then it is taken up here
   */
  holdsCancel(): boolean {
    if (this.#state.kind !== 'resuming') return false;
    this.#state.cancelRequested = true;
    return true;
  }

  /** There is nothing to deliver: suspends the run when it does no work and awaits something. */
  onIdle(): void {
    if (!this.#host.isIdle || this.#state.kind !== 'live' || this.#waits.size === 0) return;
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
    const named = firstToEnd(awaited);
    const waits = named.map(({ stepId, on }) => ({
      stepId,
      kind: { case: on === 'TIMER' ? ('timer' as const) : ('retry' as const), value: {} },
    }));
    const answer = await host.calls.call('suspendRun', { waits }, { gated: false });
    if (answer.suspended) {
      // What the code requested while the answer was on its way was sent under a lease that is over: it gets no answer.
      if (!host.isIdle || !isSame(this.#waits.list(), awaited)) {
        host.forget();
        return;
      }
      this.#state = { kind: 'suspended', named };
      this.#waits.pause();
      host.onSuspended();
      return;
    }
    this.#state = LIVE;
    if (answer.cancelRequested) host.cancel();
    this.#waits.due(answer.readyStepIds);
    host.delivery.recheck();
  }

  /** The run is held again, and no other worker has held it since: only what was awaited may have changed, and the cancel request. */
  resume(leased: LeasedRun): void {
    const named = this.#state.kind === 'suspended' ? this.#state.named : [];
    const resuming = { kind: 'resuming' as const, cancelRequested: leased.cancelRequested };
    this.#state = resuming;
    const host = this.#host;
    void host.faults.guard(() => host.work.during(() => this.#resume(named, resuming)));
  }

  async #resume(named: readonly PendingWait[], resuming: { readonly cancelRequested: boolean }): Promise<void> {
    const host = this.#host;
    const { memo } = await host.calls.call('getMemo', { stepIds: named.map(({ stepId }) => stepId) });
    const recorded = new Map(memo.map((entry) => [entry.stepId, entry]));
    if (!named.every((wait) => isAsAwaited(wait, recorded.get(wait.stepId)))) {
      // A step was settled by other means; a replay delivers it.
      await host.release('A step that was awaited has been settled otherwise.');
      return;
    }
    for (const { stepId, status, finishedAt, firesAt, nextRetryAt } of memo) {
      const until = firesAt ?? nextRetryAt;
      if (status === StepStatus.COMPLETED) {
        this.#waits.fired(stepId, finishedAt === undefined ? undefined : dateOf(finishedAt));
      } else this.#waits.rearm(stepId, until === undefined ? 0 : host.untilMs(dateOf(until)));
    }
    this.#waits.resume();
    // Timers that have fired take their places as soon as those who await them go on.
    await Promise.resolve();
    this.#state = LIVE;
    if (resuming.cancelRequested) host.cancel();
  }
}

function firstToEnd(waits: readonly PendingWait[]): readonly PendingWait[] {
  if (waits.length <= MAX_NAMED_WAITS) return waits;
  return [...waits].sort((a, b) => a.dueAtMs - b.dueAtMs).slice(0, MAX_NAMED_WAITS);
}

/** Whether a wait can continue, or end as it was meant to. */
function isAsAwaited({ on }: PendingWait, entry: MemoEntry | undefined): boolean {
  if (entry === undefined) return false;
  return on === 'RETRY' ? !isFinal(entry) : !isFinal(entry) || entry.status === StepStatus.COMPLETED;
}

function isSame(waits: readonly PendingWait[], others: readonly PendingWait[]): boolean {
  return waits.length === others.length && waits.every((wait, index) => wait === others[index]);
}
