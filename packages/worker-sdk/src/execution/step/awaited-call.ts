import { type Arrival, dateOf, durationOf, msOf, StepKind } from '@perdure/proto';
import { RpcError } from '../../rpc/rpc-error.js';
import { isDelivered, isFinal } from '../order/memo.js';
import type { StepRef } from '../order/program.js';
import type { OnArrival } from '../wait/arrivals.js';
import { deliverOutcome, settleCancelled } from './settlement.js';
import type { AwaitedCall, Settle, StepHost } from './step-host.js';

/**
 * Carries out one wait for something from outside: a step that ends when it arrives, or with its timeout (decision 0020). While this
 * worker holds the run, notices tell that something has arrived; a suspended run is woken by it.
 */
export async function callAwaited(host: StepHost, call: AwaitedCall): Promise<void> {
  const { step, kind } = call;
  const { recorded, cut } = step;
  if (recorded !== undefined) call.onBegun?.();
  if (recorded !== undefined && isDelivered(recorded)) {
    host.delivery.request(step.stepId, () => deliverOutcome(host, call, recorded));
    return;
  }
  const onArrival: OnArrival = (arrival, eventSeq) => deliverArrival(host, call, arrival, eventSeq);
  let wait: Wait;
  if (recorded !== undefined) {
    if (host.arrivals.claim(step.stepId, onArrival)) return;
    const remainingMs =
      recorded.firesAt === undefined || isFinal(recorded) ? undefined : host.untilMs(dateOf(recorded.firesAt));
    wait = { attemptNumber: recorded.attemptNumber, remainingMs };
  } else {
    const before = cut?.attemptNumber ?? 0;
    const cancelled = async () => void (await settleCancelled(host, call, kind, before));
    if (host.cancellation.isCancelled(step)) {
      call.onBegun?.();
      return cancelled();
    }
    host.arrivals.expect(step.stepId, onArrival);
    const begun = await host.work.during(() => begin(host, call, before + 1));
    if (typeof begun === 'string') host.arrivals.forget(step.stepId);
    call.onBegun?.();
    if (begun === 'arrived') return;
    if (begun === 'cancel_requested') return cancelled();
    // The answer to a call that took the outcome was here first.
    if (!host.arrivals.isExpected(step.stepId)) return;
    wait = begun;
  }
  await awaitArrival(host, call, { kind, on: 'ARRIVAL', isChild: kind === StepKind.CHILD, ...wait, onArrival });
}

interface Wait {
  readonly attemptNumber: number;
  /** Until the timeout; undefined: none. */
  readonly remainingMs: number | undefined;
}

interface ArrivalWait extends Wait {
  readonly kind: StepKind;
  readonly on: 'TIMER' | 'ARRIVAL';
  readonly isChild?: boolean;
  readonly onArrival: OnArrival;
}

/**
 * Waits for an outcome from outside, and gives it to the code in its turn. When a cancel request comes and nothing has arrived before it,
 * the step is settled as cancelled.
 *
 * @returns when a timer is due by the worker's clock, or when the wait was cancelled; never when something arrived
 */
export async function awaitArrival(
  host: StepHost,
  call: { readonly step: StepRef; readonly settle: Settle },
  { kind, attemptNumber, ...wait }: ArrivalWait,
): Promise<'due' | 'cancelled'> {
  const end = await host.wait(call.step, wait);
  if (end.kind === 'due') return 'due';
  const settle = () => settleCancelled(host, call, kind, attemptNumber);
  if (await host.arrivals.cancelWait(call.step.stepId, settle)) return 'cancelled';
  host.arrivals.hint();
  await host.wait(call.step, { ...wait, remainingMs: undefined, isDecided: true });
  return 'cancelled';
}

function deliverArrival(host: StepHost, call: AwaitedCall, arrival: Arrival, eventSeq: number): void {
  deliverOutcome(host, call, { ...arrival, leaseToken: host.calls.leaseToken, eventSeq });
}

async function begin(
  host: StepHost,
  call: AwaitedCall,
  attemptNumber: number,
): Promise<Wait | 'arrived' | 'cancel_requested'> {
  const { step, awaits, timeoutMs } = call;
  const ticket = host.delivery.reserve();
  try {
    const { stepId, seq, uncancellable } = step;
    const begun = { stepId, seq, attemptNumber, uncancellable, eventSeq: ticket.eventSeq };
    const timeout = timeoutMs === undefined ? {} : { timeout: durationOf(timeoutMs) };
    const answer = await (call.begin?.(begun) ?? host.calls.call('awaitStep', { ...begun, awaits, ...timeout }));
    const { arrival } = answer;
    if (arrival === undefined) {
      ticket.release();
      return {
        attemptNumber: answer.attemptNumber,
        remainingMs: 'remaining' in answer ? msOf(answer.remaining) : undefined,
      };
    }
    ticket.ready(() => deliverArrival(host, call, arrival, ticket.eventSeq));
    return 'arrived';
  } catch (error) {
    ticket.release();
    if (!(error instanceof RpcError) || error.reason !== 'CANCEL_REQUESTED') throw error;
    host.cancel();
    return 'cancel_requested';
  }
}
