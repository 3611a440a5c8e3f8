import { FailureReason, StepStatus } from '@perdure/proto';
import type { RecordedStep } from '../order/memo.js';

/**
 * The retries that all steps of a run share (`maxRetriesInAll`). How many are used follows from what is recorded, the counted attempts of each
 * step, so every worker comes to the same number. Whether a failure is retried is decided once and recorded with it.
 */
export class RetryBudget {
  readonly #max: number;
  #used = 0;

  /** @param max `Infinity`: no limit */
  constructor(max: number) {
    this.#max = max;
  }

  get max(): number {
    return this.#max;
  }

  /** Counts what an earlier execution has used. */
  replay(recorded: Iterable<RecordedStep>): void {
    if (this.#max === Number.POSITIVE_INFINITY) return;
    for (const entry of recorded) this.#used += retriesOf(entry);
  }

  /**
   * Uses one retry.
   *
   * @param isFree used even when none is left: for compensations
   * @returns false when none is left
   */
  take(isFree = false): boolean {
    if (this.#used >= this.#max && !isFree) return false;
    this.#used++;
    return true;
  }
}

function retriesOf({ status, countedAttempt, failure, nextRetryAt, eventSeq }: RecordedStep): number {
  if (status !== StepStatus.FAILED || nextRetryAt === undefined) return countedAttempt - 1;
  // A retry of the run executes it again, with a new count.
  if (eventSeq > 0) return 0;
  // Lost attempts are not counted. After a timeout it is decided, and taken, when the step continues.
  const isUncounted = failure?.reason === FailureReason.WORKER_LOST || failure?.reason === FailureReason.STEP_TIMEOUT;
  return isUncounted ? countedAttempt - 1 : countedAttempt;
}
