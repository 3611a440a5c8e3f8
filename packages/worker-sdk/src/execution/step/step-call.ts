import { dateOf, StepKind, StepStatus } from '@perdure/proto';
import { isDelivered, isFinal, type RecordedStep } from '../order/memo.js';
import type { OnArrival } from '../wait/arrivals.js';
import { type Attempt, nextAfter } from './next-attempt.js';
import { deliverOutcome, settleAdopted, settleCancelled, settleGivenUp } from './settlement.js';
import { StepAttempt } from './step-attempt.js';
import type { StepCall, StepHost } from './step-host.js';

/**
 * Carries out one `ctx.step`: delivers the recorded result, or executes the body, attempt by attempt, until there is one.
 * Every result that the code receives has been recorded before, with its place in the order of results.
 *
 * A crash before BeginStep is answered leaves nothing, or an open attempt, which is closed as WORKER_LOST with the lease; a
 * crash before CompleteStep is answered does the same, unless the completion was committed: then a replay finds the result.
 */
export function callStep(host: StepHost, call: StepCall): void {
  const { step, options } = call;
  const { recorded, cut } = step;
  if (recorded === undefined) {
    if (cut !== undefined && options.atMostOnce && mayHaveRun(cut))
      void host.faults.guard(async () => void (await settleAdopted(host, call, cut)));
    else attemptStep(host, call, { attemptNumber: (cut?.attemptNumber ?? 0) + 1, countedAttempt: 1 });
  } else if (isDelivered(recorded)) {
    host.delivery.request(step.stepId, () => deliverOutcome(host, call, recorded));
  } else if (isFinal(recorded)) host.arrivals.takeFor(step.stepId, toldBy(host, call));
  else void host.faults.guard(() => continueStep(host, call, recorded));
}

function mayHaveRun({ kind, status }: RecordedStep): boolean {
  return kind === StepKind.FUNCTION && (status === StepStatus.COMPLETED || status === StepStatus.FAILED);
}

/** Continues a step of which attempts are recorded, none of them final. */
async function continueStep(host: StepHost, call: StepCall, recorded: RecordedStep): Promise<void> {
  host.reports.remember(call.step.stepId, recorded.heartbeat);
  const takeRetry = () => host.retryBudget.take(call.step.isCompensation);
  const next = nextAfter(recorded, call.options, { codec: host.codec, takeRetry });
  if (next.kind === 'give_up') {
    if (host.cancellation.isCancelled(call.step)) await cancelStep(host, call, recorded.attemptNumber);
    else if (!(await settleGivenUp(host, call, recorded))) host.arrivals.takeFor(call.step.stepId, toldBy(host, call));
    return;
  }
  const waitMs = next.at === undefined ? 0 : host.untilMs(dateOf(next.at));
  if (
    waitMs <= 0 ||
    (await host.wait(call.step, { on: 'RETRY', remainingMs: waitMs, onArrival: toldBy(host, call) })).kind === 'due'
  ) {
    attemptStep(host, call, next.attempt);
  } else await cancelStep(host, call, recorded.attemptNumber);
}

function attemptStep(host: StepHost, call: StepCall, attempt: Attempt): void {
  // A body without effects may begin on what is not recorded.
  if (host.unrecorded.isClear || call.options.isLazy) beginAttempt(host, call, attempt);
  else host.unrecorded.whenClear(() => beginAttempt(host, call, attempt));
}

function beginAttempt(host: StepHost, call: StepCall, attempt: Attempt): void {
  if (host.isPaused) return;
  const before = attempt.attemptNumber - 1;
  if (host.cancellation.isCancelled(call.step)) {
    void host.faults.guard(() => cancelStep(host, call, before));
    return;
  }
  host.work.begin();
  new StepAttempt(host, call, attempt, (end) => {
    host.work.end();
    if (host.isPaused && end.kind !== 'delivered') return;
    if (end.kind === 'not_begun') void host.faults.guard(() => cancelStep(host, call, before));
    else if (end.kind === 'retry') void host.faults.guard(() => retryStep(host, call, attempt, end.delayMs));
  }).start();
}

async function retryStep(host: StepHost, call: StepCall, failed: Attempt, delayMs: number): Promise<void> {
  const { attemptNumber, countedAttempt } = failed;
  if (
    (await host.wait(call.step, { on: 'RETRY', remainingMs: delayMs, onArrival: toldBy(host, call) })).kind ===
    'cancelled'
  )
    await cancelStep(host, call, attemptNumber);
  else attemptStep(host, call, { attemptNumber: attemptNumber + 1, countedAttempt: countedAttempt + 1 });
}

/** The cancel request ends the step, unless somebody has ended it by hand before. */
async function cancelStep(host: StepHost, call: StepCall, attemptNumber: number): Promise<void> {
  const { stepId } = call.step;
  const onArrival = toldBy(host, call);
  if (host.arrivals.claim(stepId, onArrival)) return;
  host.arrivals.expect(stepId, onArrival);
  const settle = () => settleCancelled(host, call, StepKind.FUNCTION, attemptNumber);
  if (!(await host.arrivals.cancelWait(stepId, settle))) host.arrivals.hint();
}

/** Somebody ends the step by hand, while no attempt of it is under way. */
function toldBy(host: StepHost, call: StepCall): OnArrival {
  return (arrival, eventSeq) => deliverOutcome(host, call, { ...arrival, leaseToken: host.calls.leaseToken, eventSeq });
}
