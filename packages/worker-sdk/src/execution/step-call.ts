import { FailureReason, type MemoEntry, StepStatus } from '@perdure/proto';
import { decodeValue } from '../codec/payload.js';
import type { StepContext } from '../context.js';
import { CancelledError, WorkerLostError } from '../errors/errors.js';
import { errorOf } from '../errors/failure.js';
import { decideRetry } from '../retry.js';
import { dateOf } from '../rpc/time.js';
import { blame } from './blame.js';
import { isFinal } from './memo.js';
import type { StepRef } from './program-order.js';
import type { RunExecution } from './run-execution.js';
import { type Attempt, StepAttempt } from './step-attempt.js';
import type { ResolvedStepOptions } from './step-options.js';

/** How the author's promise is settled. */
export interface Settle {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

export interface StepCall {
  readonly step: StepRef;
  readonly body: (step: StepContext) => unknown;
  readonly options: ResolvedStepOptions;
  readonly settle: Settle;
}

/**
 * Carries out one `ctx.step`: gives out the recorded result, or executes the body, attempt by attempt, until there is one.
 *
 * A crash before BeginStep is answered leaves nothing, or an open attempt, which is closed as WORKER_LOST with the lease; a
 * crash before CompleteStep is answered likewise, unless the completion was committed: then a replay finds the result.
 */
export function callStep(execution: RunExecution, call: StepCall): void {
  const { step, settle } = call;
  const { recorded } = step;
  if (recorded === undefined) attemptStep(execution, call, { attemptNumber: 1, tryNumber: 1 });
  else if (isFinal(recorded)) {
    execution.delivery.ask(step.stepId, () => deliverRecorded(execution, recorded, settle));
  } else execution.activity(() => resumeStep(execution, call, recorded));
}

/** Goes on with a step of which attempts are recorded, none of them final. */
async function resumeStep(execution: RunExecution, call: StepCall, recorded: MemoEntry): Promise<void> {
  const { step, options, settle } = call;
  execution.heartbeats.remember(step.stepId, recorded.heartbeat);
  const verdict = judgeLost(execution, recorded, options);
  if (!verdict.again) {
    execution.deliverUnrecorded(() => settle.reject(blame(verdict.error, step.stepId)));
    return;
  }
  const waitMs = recorded.nextRetryAt === undefined ? 0 : execution.untilMs(dateOf(recorded.nextRetryAt));
  const isDue = waitMs <= 0 || (await execution.wait(step, 'RETRY', waitMs)).kind === 'due';
  if (!isDue) cancelled(execution, call);
  else attemptStep(execution, call, { attemptNumber: recorded.attemptNumber + 1, tryNumber: verdict.tryNumber });
}

function attemptStep(execution: RunExecution, call: StepCall, attempt: Attempt): void {
  if (execution.isCancelled(call.step)) {
    cancelled(execution, call);
    return;
  }
  execution.beginWork();
  new StepAttempt(execution, call, attempt, (end) => {
    execution.endWork();
    if (end.kind === 'cancelled') cancelled(execution, call);
    else if (end.kind === 'retry') execution.activity(() => retryStep(execution, call, attempt, end.delayMs));
  }).start();
}

async function retryStep(execution: RunExecution, call: StepCall, failed: Attempt, delayMs: number): Promise<void> {
  if ((await execution.wait(call.step, 'RETRY', delayMs)).kind === 'cancelled') cancelled(execution, call);
  else attemptStep(execution, call, { attemptNumber: failed.attemptNumber + 1, tryNumber: failed.tryNumber + 1 });
}

function cancelled(execution: RunExecution, { settle }: StepCall): void {
  execution.deliverUnrecorded(() => settle.reject(new CancelledError()));
}

function deliverRecorded(execution: RunExecution, recorded: MemoEntry, settle: Settle): void {
  if (recorded.finishedAt !== undefined) execution.advanceClock(dateOf(recorded.finishedAt));
  if (recorded.status === StepStatus.COMPLETED) {
    try {
      settle.resolve(decodeValue(execution.codec, recorded.output));
    } catch (error) {
      execution.fault(`The recorded result of step '${recorded.stepId}' cannot be decoded`, error);
    }
  } else if (recorded.failure !== undefined) {
    settle.reject(blame(errorOf(execution.codec, recorded.failure), recorded.stepId));
  } else {
    settle.reject(new CancelledError(`Step '${recorded.stepId}' was given up.`));
  }
}

type LostVerdict =
  | { readonly again: true; readonly tryNumber: number }
  | { readonly again: false; readonly error: Error };

/**
 * What follows on a recorded attempt that is not final: a failed try whose retry is due, a worker that was lost (its try
 * does not count), or a timeout that the server found (it counts, and only here the policy is known).
 */
function judgeLost(execution: RunExecution, recorded: MemoEntry, options: ResolvedStepOptions): LostVerdict {
  const { failure, tryNumber } = recorded;
  if (failure?.reason === FailureReason.WORKER_LOST) {
    if (!options.atMostOnce) return { again: true, tryNumber };
    return { again: false, error: new WorkerLostError(failure.message) };
  }
  if (failure?.reason === FailureReason.STEP_TIMEOUT) {
    const error = errorOf(execution.codec, failure);
    const decision = decideRetry(options.retry, { error, tryNumber, random: 0.5, nowMs: Date.now() });
    if (!decision.retry) return { again: false, error };
  }
  return { again: true, tryNumber: tryNumber + 1 };
}
