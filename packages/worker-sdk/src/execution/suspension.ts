import { type LeasedRun, type MemoEntry, StepStatus } from '@perdure/proto';
import { type Clock, monotonicClock } from '../clock.js';
import { dateOf } from '../rpc/time.js';
import { isFinal } from './memo.js';
import type { SuspensionHost } from './ports.js';
import type { PendingWait, Waits } from './waits.js';

/** A wait that ends this soon is not worth giving the run back for, in ms. */
const IN_PLACE_MS = 200;
/** Waits that a suspension names: those that end first. The others are found again when the run is held again. */
const MAX_NAMED_WAITS = 1_000;

type State =
  | { readonly kind: 'live' }
  /** SuspendRun is on its way. */
  | { readonly kind: 'suspending' }
  /** The lease is given back, and the code has not run since. */
  | { readonly kind: 'suspended'; readonly named: readonly PendingWait[] };

const LIVE: State = { kind: 'live' };

/**
 * Gives a run back when everything in it awaits time, and resumes it when it comes back to this worker. In between the
 * code stays where it stands, in memory; what happens to that memory does not matter.
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

  /** Nothing is to be delivered: when nothing else is under way and something is awaited, the run is given back. */
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
      // What the code did while the answer was on its way was sent under a lease that is over: nobody will answer it.
      if (!host.isIdle || !isSame(this.#waits.list(), awaited)) {
        host.evict();
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
    host.delivery.touch();
  }

  /** The run is held again, and nobody else has held it since: all that may have changed is what was awaited, and a cancel. */
  resume(leased: LeasedRun): void {
    const named = this.#state.kind === 'suspended' ? this.#state.named : [];
    this.#state = LIVE;
    const host = this.#host;
    void host.faults.guard(() => host.work.during(() => this.#resume(leased, named)));
  }

  async #resume(leased: LeasedRun, named: readonly PendingWait[]): Promise<void> {
    const host = this.#host;
    const { memo } = await host.calls.call('getMemo', { stepIds: named.map(({ stepId }) => stepId) });
    const recorded = new Map(memo.map((entry) => [entry.stepId, entry]));
    if (!named.every((wait) => isAsAwaited(wait, recorded.get(wait.stepId)))) {
      // Somebody has settled a step by other means; a replay takes it up.
      await host.release('What was awaited has been settled otherwise.');
      return;
    }
    for (const { stepId, status, finishedAt, firesAt, nextRetryAt } of memo) {
      const until = firesAt ?? nextRetryAt;
      if (status === StepStatus.COMPLETED) {
        this.#waits.fired(stepId, finishedAt === undefined ? undefined : dateOf(finishedAt));
      } else this.#waits.rearm(stepId, until === undefined ? 0 : host.untilMs(dateOf(until)));
    }
    this.#waits.resume();
    if (leased.cancelRequested) host.cancel();
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
