/** Requests about what comes from outside of a run, as commands. */
import type { AwaitStepRequest, SignalRunRequest, TakeArrivalsRequest } from '@perdure/proto';
import type { AwaitStep, LeaseRef, Payload, RunRef, TakeArrivals } from '@perdure/store';
import type { Checker } from './checker.js';
import { decodeEventWait } from './event-requests.js';
import { decodeName } from './name.js';
import { decodePromiseOf } from './promise-requests.js';
import { decodeLease, MAX_INT32 } from './worker-requests.js';
import { decodeRunRef } from './workflow-requests.js';

const MAX_DUE_STEPS = 1_000;

export function decodeAwaitStep(check: Checker, request: AwaitStepRequest): AwaitStep {
  const lease = decodeLease(check, request);
  const stepId = check.id('step_id', request.stepId);
  return {
    ...lease,
    stepId,
    seq: check.integer('seq', request.seq, 1, MAX_INT32),
    ...decodeAwaits(check, request, lease, stepId),
    attemptNumber: check.integer('attempt_number', request.attemptNumber, 1, MAX_INT32),
    timeoutMs: check.duration('timeout', request.timeout, null),
    eventSeq: check.integer('event_seq', request.eventSeq, 1, MAX_INT32),
    uncancellable: request.uncancellable,
  };
}

function decodeAwaits(
  check: Checker,
  { awaits }: AwaitStepRequest,
  { namespace, runId }: LeaseRef,
  stepId: string,
): Pick<AwaitStep, 'stepKind' | 'awaits'> {
  switch (awaits.case) {
    case 'signal':
      return { stepKind: 'SIGNAL', awaits: decodeName(check, 'signal', awaits.value) };
    case 'event':
      return { stepKind: 'EVENT', awaits: JSON.stringify(decodeEventWait(check, namespace, awaits.value)) };
    case 'promise':
      return { stepKind: 'PROMISE', awaits: decodePromiseOf(check, awaits.value, runId, stepId) };
    case undefined:
      check.violate('awaits', 'must say what the step waits for: signal, event or promise.');
      return { stepKind: 'SIGNAL', awaits: '' };
  }
}

export function decodeTakeArrivals(check: Checker, request: TakeArrivalsRequest): TakeArrivals {
  check.count('due_step_ids', request.dueStepIds.length, 0, MAX_DUE_STEPS);
  return {
    ...decodeLease(check, request),
    eventSeq: check.integer('event_seq', request.eventSeq, 1, MAX_INT32),
    dueStepIds: request.dueStepIds
      .slice(0, MAX_DUE_STEPS)
      .map((stepId, index) => check.id(`due_step_ids[${index}]`, stepId)),
  };
}

/** A signal to a run that is named by its run id or its workflow id. */
export interface SignalRequest {
  readonly ref: RunRef;
  readonly name: string;
  readonly payload: Payload | null;
  readonly requestId: string | null;
  readonly sender: string;
}

export function decodeSignalRun(check: Checker, request: SignalRunRequest): SignalRequest {
  return {
    ref: decodeRunRef(check, request),
    name: decodeName(check, 'name', request.name),
    payload: check.payload('payload', request.payload),
    requestId: check.optionalId('request_id', request.requestId) || null,
    sender: check.optionalId('sender', request.sender),
  };
}
