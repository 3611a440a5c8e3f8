import { dateOf, durationOf, msOf, StepKind, timestampOf } from '@perdure/proto';
import { RpcError } from '../../rpc/rpc-error.js';
import { isDelivered, isFinal } from '../order/memo.js';
import type { OnArrival } from '../wait/arrivals.js';
import { awaitArrival } from './awaited-call.js';
import { isEndedByHand } from './ended-by-hand.js';
import { deliverOutcome, settleCancelled } from './settlement.js';
import type { SleepCall, StepHost } from './step-host.js';

/**
 * Carries out one `ctx.sleep`: a durable timer. Its time is fixed when it is recorded, by the database's clock; a replay
 * finds it and does not restart it. While this worker holds the run it watches the timer, and the database decides whether
 * it is due; a suspended run's timers are fired by the reaper.
 */
export async function callSleep(host: StepHost, call: SleepCall): Promise<void> {
  const { step } = call;
  const { recorded, cut } = step;
  if (recorded !== undefined && isDelivered(recorded)) {
    host.delivery.request(step.stepId, () => deliverOutcome(host, call, recorded));
    return;
  }
  const onArrival: OnArrival = (arrival, eventSeq) =>
    deliverOutcome(host, call, { ...arrival, leaseToken: host.calls.leaseToken, eventSeq });
  let timer: Timer;
  if (recorded?.firesAt !== undefined) {
    if (host.arrivals.claim(step.stepId, onArrival)) return;
    // The reaper may have ended it already; then it is taken like everything that comes from outside.
    const remainingMs = isFinal(recorded) ? undefined : host.untilMs(dateOf(recorded.firesAt));
    timer = { attemptNumber: recorded.attemptNumber, remainingMs };
  } else {
    const before = cut?.attemptNumber ?? 0;
    const cancelled = async () => void (await settleCancelled(host, call, StepKind.SLEEP, before));
    if (host.cancellation.isCancelled(step)) return cancelled();
    // From now on somebody may end it by hand. What is taken before the answer to this call is told in its turn, not when the wait begins.
    host.arrivals.expect(step.stepId, onArrival);
    const scheduled = await host.work.during(() => schedule(host, call, before + 1));
    if (scheduled === 'cancel_requested') {
      host.arrivals.forget(step.stepId);
      return cancelled();
    }
    if (!host.arrivals.isExpected(step.stepId)) return;
    timer = scheduled;
  }
  for (;;) {
    const end = await awaitArrival(host, call, {
      kind: StepKind.SLEEP,
      on: 'TIMER',
      attemptNumber: timer.attemptNumber,
      remainingMs: timer.remainingMs,
      onArrival,
    });
    if (end === 'cancelled') return;
    host.arrivals.expect(step.stepId, onArrival);
    const remainingMs = await host.work.during(() => fire(host, call, timer.attemptNumber));
    if (remainingMs === 'fired') {
      host.arrivals.forget(step.stepId);
      return;
    }
    if (!host.arrivals.isExpected(step.stepId)) return;
    if (remainingMs === 'ended_by_hand') {
      host.arrivals.hint();
      return;
    }
    timer = { ...timer, remainingMs };
  }
}

interface Timer {
  readonly attemptNumber: number;
  readonly remainingMs: number | undefined;
}

async function schedule(
  host: StepHost,
  { step, when }: SleepCall,
  attemptNumber: number,
): Promise<Timer | 'cancel_requested'> {
  try {
    const answer = await host.calls.call('scheduleSleep', {
      stepId: step.stepId,
      seq: step.seq,
      attemptNumber,
      uncancellable: step.uncancellable,
      when:
        'until' in when
          ? { case: 'until', value: timestampOf(when.until) }
          : { case: 'duration', value: durationOf(when.durationMs) },
    });
    return { attemptNumber: answer.attemptNumber, remainingMs: msOf(answer.remaining) ?? 0 };
  } catch (error) {
    if (!(error instanceof RpcError) || error.reason !== 'CANCEL_REQUESTED') throw error;
    host.cancel();
    return 'cancel_requested';
  }
}

/** @returns the ms left by the database's clock when it is not due yet */
async function fire(
  host: StepHost,
  { step, settle }: SleepCall,
  attemptNumber: number,
): Promise<number | 'fired' | 'ended_by_hand'> {
  const ticket = host.delivery.reserve();
  try {
    const answer = await host.calls.call('completeStep', {
      stepId: step.stepId,
      attemptNumber,
      eventSeq: ticket.eventSeq,
    });
    ticket.ready(() => {
      if (answer.finishedAt !== undefined) host.facts.advanceClock(dateOf(answer.finishedAt));
      settle.resolve(undefined);
    });
    if (answer.cancelRequested) host.cancel();
    return 'fired';
  } catch (error) {
    ticket.release();
    if (isEndedByHand(error)) return 'ended_by_hand';
    if (!(error instanceof RpcError) || error.reason !== 'TIMER_NOT_DUE') throw error;
    return Math.max(1, Math.ceil(error.retryAfterMs ?? 1));
  }
}
