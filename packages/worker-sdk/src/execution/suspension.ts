import { type LeasedRun, type MemoEntry, StepStatus } from '@perdure/proto';
import { dateOf } from '../rpc/time.js';
import { isFinal } from './memo.js';
import type { RunExecution } from './run-execution.js';
import type { PendingWait, Waits } from './waits.js';

/** A wait that ends this soon is not worth giving the run back for, in ms. */
const IN_PLACE_MS = 200;

/**
 * Gives a run back when everything in it awaits time, and goes on with it when it comes back to this worker. In between the
 * code stays where it stands, in memory; what happens to that memory does not matter.
 */
export class Suspension {
  readonly #execution: RunExecution;
  readonly #waits: Waits;
  #underWay = false;
  #isParked = false;

  constructor(execution: RunExecution, waits: Waits) {
    this.#execution = execution;
    this.#waits = waits;
  }

  /** The lease is given back, and the code has not gone on since. */
  get isParked(): boolean {
    return this.#isParked;
  }

  /** Nothing is to be delivered: when nothing else is under way and something is awaited, the run can go. */
  onQuiet(): void {
    if (!this.#execution.isIdle || this.#isParked || this.#underWay || this.#waits.size === 0) return;
    const waits = this.#waits.list();
    const earliestMs = Math.min(...waits.map((wait) => wait.dueAtMs)) - performance.now();
    if (earliestMs <= IN_PLACE_MS) return;
    this.#underWay = true;
    const { calls } = this.#execution;
    this.#execution.activity(() => calls.exclusively(() => this.#suspend(waits)));
  }

  async #suspend(awaited: readonly PendingWait[]): Promise<void> {
    const waits = awaited.map(({ stepId, on }) => ({
      stepId,
      condition: { case: on === 'TIMER' ? ('timer' as const) : ('retry' as const), value: {} },
    }));
    const answer = await this.#execution.calls.call('suspendRun', { waits }, { gated: false });
    if (answer.suspended) {
      // What went on while the answer was on its way was sent under a lease that is over: nobody will answer it.
      if (!this.#execution.isIdle || !isSame(this.#waits.list(), awaited)) {
        this.#execution.evict();
        return;
      }
      this.#isParked = true;
      this.#waits.pause();
      this.#execution.parked();
      return;
    }
    this.#underWay = false;
    if (answer.cancelRequested) this.#execution.cancel();
    this.#waits.due(answer.readyStepIds);
    this.#execution.delivery.touch();
  }

  /** The run is held again, and nobody else has held it since: all that may have changed is what was awaited, and a cancel. */
  resumed(leased: LeasedRun): void {
    this.#isParked = false;
    this.#underWay = false;
    const execution = this.#execution;
    execution.activity(() => execution.busy(() => this.#goOn(leased)));
  }

  async #goOn(leased: LeasedRun): Promise<void> {
    const execution = this.#execution;
    const waits = this.#waits.list();
    const { memo } = await execution.calls.call('getMemo', { stepIds: waits.map(({ stepId }) => stepId) });
    const recorded = new Map(memo.map((entry) => [entry.stepId, entry]));
    if (!waits.every((wait) => isAsAwaited(wait, recorded.get(wait.stepId)))) {
      // Somebody has settled a step by other means; a replay takes it up.
      await execution.release('What was awaited has been settled otherwise.');
      return;
    }
    for (const { stepId, status, finishedAt, firesAt, nextRetryAt } of memo) {
      const until = firesAt ?? nextRetryAt;
      if (status === StepStatus.COMPLETED) {
        this.#waits.fired(stepId, finishedAt === undefined ? undefined : dateOf(finishedAt));
      } else this.#waits.goOn(stepId, until === undefined ? 0 : execution.untilMs(dateOf(until)));
    }
    if (leased.cancelRequested) execution.cancel();
  }
}

/** Whether a wait can go on, or end as it was meant to. */
function isAsAwaited({ on }: PendingWait, entry: MemoEntry | undefined): boolean {
  if (entry === undefined) return false;
  return on === 'RETRY' ? !isFinal(entry) : !isFinal(entry) || entry.status === StepStatus.COMPLETED;
}

function isSame(waits: readonly PendingWait[], others: readonly PendingWait[]): boolean {
  return waits.length === others.length && waits.every((wait, index) => wait === others[index]);
}
