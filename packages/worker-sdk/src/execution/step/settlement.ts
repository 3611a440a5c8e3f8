import { dateOf, type Failure, StepKind, StepStatus } from '@perdure/proto';
import type { Codec } from '../../codec/codec.js';
import { isJson, jsonCodec } from '../../codec/json-codec.js';
import { decodeValue } from '../../codec/payload.js';
import { originIn } from '../../errors/error-facts.js';
import { CancelledError } from '../../errors/errors.js';
import { errorOf } from '../../errors/failure.js';
import type { RecordedStep } from '../order/memo.js';
import type { StepRef } from '../order/program.js';
import type { Settle, StepHost } from './step-host.js';
import type { ResolvedStepOptions } from './step-options.js';

/** A call of the author's that is settled. */
interface Call {
  readonly step: StepRef;
  readonly settle: Settle;
  readonly acceptsJson?: boolean;
  readonly options?: Pick<ResolvedStepOptions, 'isLazy' | 'retry'>;
}

/** A final outcome with its place. */
export type Outcome = Pick<
  RecordedStep,
  'stepId' | 'status' | 'output' | 'failure' | 'finishedAt' | 'leaseToken' | 'eventSeq' | 'update'
> & { readonly countedAttempt?: number };

/**
 * The cancel request ends the call, whether its step has begun or not: recorded first, then the code is told.
 *
 * @returns false when an outcome from outside was there first: nothing is settled
 */
export function settleCancelled(host: StepHost, call: Call, kind: StepKind, attemptNumber: number): Promise<boolean> {
  return settleStep(host, call, { kind, status: StepStatus.CANCELLED, attemptNumber }, () =>
    call.settle.reject(new CancelledError()),
  );
}

/** The recorded failure becomes the call's final outcome: recorded as such first, then the code is told. */
export function settleGivenUp(host: StepHost, call: Call, recorded: RecordedStep): Promise<boolean> {
  const { attemptNumber, failure } = recorded;
  const given = { kind: StepKind.FUNCTION, status: StepStatus.FAILED, attemptNumber };
  return settleStep(host, call, given, (eventSeq) => {
    const place = { leaseToken: host.calls.leaseToken, eventSeq, stepId: recorded.stepId };
    call.settle.reject(host.failures.delivered(failureError(host, call, recorded, failure), place, host.seq));
  });
}

/** Delivers again the outcome that a run-level retry has taken back: a body that runs at most once is not executed again. */
export function settleAdopted(host: StepHost, call: Call, cut: RecordedStep): Promise<boolean> {
  const { attemptNumber, status } = cut;
  return settleStep(host, call, { kind: StepKind.FUNCTION, status, attemptNumber }, (eventSeq) =>
    deliverOutcome(host, call, { ...cut, leaseToken: host.calls.leaseToken, eventSeq }),
  );
}

/** Tells the code what is recorded as the final outcome of a call. */
export function deliverOutcome(host: StepHost, call: Call, recorded: Outcome): void {
  const { settle, acceptsJson, options } = call;
  const isLazy = options?.isLazy === true && recorded.status === StepStatus.COMPLETED;
  if (recorded.finishedAt !== undefined && !isLazy) host.facts.advanceClock(dateOf(recorded.finishedAt));
  host.told(undefined);
  switch (recorded.status) {
    case StepStatus.COMPLETED:
      try {
        settle.resolve(resultOf(host.codec, recorded.output, acceptsJson), recorded.update);
      } catch (error) {
        host.faults.undecodable(`The recorded result of step '${recorded.stepId}' cannot be decoded`, error);
      }
      return;
    case StepStatus.SKIPPED:
      if (settle.skip === undefined) settle.resolve(undefined);
      else settle.skip();
      return;
    case StepStatus.TIMED_OUT:
      settle.resolve(null);
      return;
    case StepStatus.FAILED:
      settle.reject(host.failures.delivered(failureError(host, call, recorded, recorded.failure), recorded, host.seq));
      return;
    default:
      settle.reject(new CancelledError());
  }
}

/** A step that was ended by hand may have plain JSON whatever the codec is: who ends it need not know the codec. */
function resultOf(codec: Codec, output: Outcome['output'], prefersJson = false): unknown {
  const isPlain = isJson(output?.encoding ?? '');
  if (isPlain && prefersJson) return decodeValue(jsonCodec, output);
  try {
    return decodeValue(codec, output);
  } catch (error) {
    if (!isPlain) throw error;
    return decodeValue(jsonCodec, output);
  }
}

function failureError(
  host: StepHost,
  { options }: Call,
  { stepId, countedAttempt }: Pick<Outcome, 'stepId' | 'countedAttempt'>,
  failure: Failure | undefined,
): Error {
  if (failure === undefined) return new Error('The failure was not recorded.');
  return errorOf(host.codec, failure, originIn(host.facts.run, stepId, countedAttempt, options?.retry?.maxAttempts));
}

interface Settled {
  readonly kind: StepKind;
  readonly status: StepStatus;
  /** The latest attempt that is recorded; 0: none. */
  readonly attemptNumber: number;
}

async function settleStep(
  host: StepHost,
  { step }: Call,
  outcome: Settled,
  deliver: (eventSeq: number) => void,
): Promise<boolean> {
  const ticket = host.delivery.reserve();
  return host.work.during(async () => {
    const answer = await host.calls.call('settleStep', {
      ...outcome,
      stepId: step.stepId,
      seq: step.seq,
      eventSeq: ticket.eventSeq,
    });
    if (answer.arrived) {
      ticket.release();
      return false;
    }
    ticket.ready(() => {
      if (answer.finishedAt !== undefined) host.facts.advanceClock(dateOf(answer.finishedAt));
      deliver(ticket.eventSeq);
    });
    return true;
  });
}
