import { type Failure, FailureReason, StepStatus } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { errorOf } from '../../errors/failure.js';
import { decideRetry, type ResolvedRetryPolicy, type RetryDecision } from '../../retry.js';
import type { RecordedStep } from '../order/memo.js';
import type { ResolvedStepOptions } from './step-options.js';

export interface Attempt {
  readonly attemptNumber: number;
  readonly countedAttempt: number;
}

export type NextStep =
  | { readonly kind: 'attempt'; readonly attempt: Attempt; readonly at: RecordedStep['nextRetryAt'] }
  /** The recorded failure is final: no attempt follows. */
  | { readonly kind: 'give_up' };

/**
 * What follows the latest recorded attempt of a step that has no final result.
 *
 * - Lost with its worker (also one that an earlier lease left open): executed again, and the loss is no counted attempt; a
 *   step that is executed at most once is given up.
 * - Finally failed, and reopened by a retry of the run: executed again with a new count; at most once is kept here too.
 * - Timed out by the server: counted, and only here the policy is known.
 * - Failed: the worker decided when it recorded the failure.
 */
export function nextAfter(
  recorded: RecordedStep,
  options: ResolvedStepOptions,
  { codec, takeRetry }: { readonly codec: Codec; readonly takeRetry: () => boolean },
): NextStep {
  const { failure, attemptNumber, countedAttempt } = recorded;
  const again = (nextCount: number): NextStep => ({
    kind: 'attempt',
    attempt: { attemptNumber: attemptNumber + 1, countedAttempt: nextCount },
    at: recorded.nextRetryAt,
  });
  const isReopened = recorded.status === StepStatus.FAILED && recorded.eventSeq > 0;
  const isLost = recorded.status === StepStatus.RUNNING || failure?.reason === FailureReason.WORKER_LOST;
  if (isReopened || isLost) {
    if (options.atMostOnce) return { kind: 'give_up' };
    return again(isReopened ? 1 : countedAttempt);
  }
  if (failure?.reason === FailureReason.STEP_TIMEOUT) {
    if (!mayRetry(options.retry, failure, countedAttempt, codec) || !takeRetry()) return { kind: 'give_up' };
  }
  return again(countedAttempt + 1);
}

function mayRetry(policy: ResolvedRetryPolicy, failure: Failure, countedAttempt: number, codec: Codec): boolean {
  return decide(policy, errorOf(codec, failure), countedAttempt).retry;
}

/** Decides whether another attempt follows. A matcher that throws must not block the recording of the failure. */
export function decide(policy: ResolvedRetryPolicy, error: unknown, countedAttempt: number): RetryDecision {
  try {
    return decideRetry(policy, { error, countedAttempt, random: Math.random(), nowMs: Date.now() });
  } catch {
    // The original error is more useful than the matcher's.
    return { retry: false, why: 'non_retryable' };
  }
}
