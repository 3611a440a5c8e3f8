import { StepStatus } from '@perdure/proto';
import { CancelledError } from '../errors/errors.js';
import { RpcError } from '../rpc/rpc-error.js';
import { dateOf, durationMessage, msOf, timestampMessage } from '../rpc/time.js';
import { isFinal } from './memo.js';
import type { StepRef } from './program-order.js';
import type { RunExecution } from './run-execution.js';
import type { Settle } from './step-call.js';

export interface SleepCall {
  readonly step: StepRef;
  readonly when: { readonly durationMs: number } | { readonly until: Date };
  readonly settle: Settle;
}

/**
 * Carries out one `ctx.sleep`: a durable timer. Its time is fixed when it is recorded, by the database's clock; a replay
 * finds it and does not start anew. While the run stays in this worker the timer is watched here, and the database has the
 * last word on whether it is due; a suspended run's timers are fired by the reaper.
 */
export async function callSleep(execution: RunExecution, { step, when, settle }: SleepCall): Promise<void> {
  const { recorded } = step;
  if (recorded !== undefined && isFinal(recorded)) {
    execution.delivery.ask(step.stepId, () => {
      if (recorded.finishedAt !== undefined) execution.advanceClock(dateOf(recorded.finishedAt));
      if (recorded.status === StepStatus.COMPLETED) settle.resolve(undefined);
      else settle.reject(new CancelledError());
    });
    return;
  }
  const cancelled = () => execution.deliverUnrecorded(() => settle.reject(new CancelledError()));
  if (execution.isCancelled(step)) return cancelled();
  let remainingMs: number;
  if (recorded?.firesAt !== undefined) remainingMs = execution.untilMs(dateOf(recorded.firesAt));
  else {
    const scheduled = await execution.busy(() => schedule(execution, step, when));
    if (scheduled === 'cancelled') return cancelled();
    remainingMs = scheduled;
  }
  while (remainingMs !== FIRED) {
    const end = await execution.wait(step, 'TIMER', remainingMs);
    if (end.kind === 'cancelled') return cancelled();
    if (end.kind === 'fired') {
      return execution.deliverUnrecorded(() => {
        if (end.at !== undefined) execution.advanceClock(end.at);
        settle.resolve(undefined);
      });
    }
    remainingMs = await execution.busy(() => fire(execution, step, settle));
  }
}

const FIRED = -1;

async function schedule(
  execution: RunExecution,
  step: StepRef,
  when: SleepCall['when'],
): Promise<number | 'cancelled'> {
  try {
    const answer = await execution.calls.call('scheduleSleep', {
      stepId: step.stepId,
      seq: step.seq,
      uncancellable: step.uncancellable,
      when:
        'until' in when
          ? { case: 'until', value: timestampMessage(when.until) }
          : { case: 'duration', value: durationMessage(when.durationMs) },
    });
    return msOf(answer.remaining);
  } catch (error) {
    if (!(error instanceof RpcError) || error.reason !== 'CANCEL_REQUESTED') throw error;
    execution.cancel();
    return 'cancelled';
  }
}

/** @returns FIRED, or the ms that are still to wait by the database's clock */
async function fire(execution: RunExecution, step: StepRef, settle: Settle): Promise<number> {
  const slot = execution.delivery.reserve();
  try {
    const ack = await execution.calls.call('completeStep', {
      stepId: step.stepId,
      attemptNumber: 1,
      eventSeq: slot.eventSeq,
    });
    slot.ready(() => {
      if (ack.finishedAt !== undefined) execution.advanceClock(dateOf(ack.finishedAt));
      settle.resolve(undefined);
    });
    if (ack.cancelRequested) execution.cancel();
    return FIRED;
  } catch (error) {
    slot.release();
    if (!(error instanceof RpcError) || error.reason !== 'TIMER_NOT_DUE') throw error;
    return Math.max(1, Math.ceil(error.retryAfterMs ?? 1));
  }
}
