import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { FailureReason, MemoEntrySchema, StepKind, StepStatus, timestampOf } from '@perdure/proto';
import { describe, expect, it } from 'vitest';
import { RetryBudget } from '../../packages/worker-sdk/dist/execution/step/retry-budget.js';

const entry = (init: MessageInitShape<typeof MemoEntrySchema>) =>
  create(MemoEntrySchema, { stepId: 's', seq: 1, kind: StepKind.FUNCTION, attemptNumber: 9, ...init });
const nextRetryAt = timestampOf(new Date(0));
const failed = (reason: FailureReason, countedAttempt: number, more = {}) =>
  entry({ status: StepStatus.FAILED, countedAttempt, failure: { type: 'E', message: 'm', reason }, ...more });

/** How many retries of a large budget are used. */
function usedBy(...entries: ReturnType<typeof entry>[]): number {
  const budget = new RetryBudget(100);
  budget.replay(entries);
  let left = 0;
  while (budget.take()) left++;
  return 100 - left;
}

describe('the retries that the steps of a run share', () => {
  it.each([
    [
      'a step that completed in its third counted attempt',
      entry({ status: StepStatus.COMPLETED, countedAttempt: 3 }),
      2,
    ],
    ['a failure that waits for its retry', failed(FailureReason.APPLICATION, 2, { nextRetryAt }), 2],
    ['a final failure', failed(FailureReason.APPLICATION, 4, { eventSeq: 7 }), 3],
    ['an attempt that was lost with its worker', failed(FailureReason.WORKER_LOST, 2, { nextRetryAt }), 1],
    ['an attempt that an earlier lease left open', entry({ status: StepStatus.RUNNING, countedAttempt: 2 }), 1],
    [
      'a timeout that the reaper found, and nobody has decided about',
      failed(FailureReason.STEP_TIMEOUT, 2, { nextRetryAt }),
      1,
    ],
    [
      'a failure that a retry of the run executes again',
      failed(FailureReason.APPLICATION, 4, { nextRetryAt, eventSeq: 7 }),
      0,
    ],
    ['a timer', entry({ kind: StepKind.SLEEP, status: StepStatus.COMPLETED, countedAttempt: 1 }), 0],
  ])('%s has used what is recorded of it', (_, recorded, used) => {
    expect(usedBy(recorded)).toBe(used);
    expect(usedBy(recorded, entry({ status: StepStatus.COMPLETED, countedAttempt: 2 }))).toBe(used + 1);
  });

  it('are counted, but never refused, when they are free; without a limit none is refused', () => {
    const budget = new RetryBudget(1);
    expect([budget.take(true), budget.take(true), budget.take()]).toEqual([true, true, false]);
    const unlimited = new RetryBudget(Number.POSITIVE_INFINITY);
    unlimited.replay([entry({ status: StepStatus.COMPLETED, countedAttempt: 2 ** 30 })]);
    expect(unlimited.take()).toBe(true);
  });
});
