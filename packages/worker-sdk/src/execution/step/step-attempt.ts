import { type CompleteStepResponse, dateOf, durationOf, StepKind } from '@perdure/proto';
import { encodeValue } from '../../codec/payload.js';
import { MAX_DURATION_MS } from '../../duration.js';
import { originIn } from '../../errors/error-facts.js';
import { CancelledError, LeaseLostError, RetryBudgetError } from '../../errors/errors.js';
import { errorOf, failureOf, markNonRetryable } from '../../errors/failure.js';
import { RpcError } from '../../rpc/rpc-error.js';
import { shown } from '../../text.js';
import { type BodyResult, StepBody } from '../body/step-body.js';
import { type CallHandler, ExecutionEnded } from '../lease/leased-calls.js';
import type { RequestOf } from '../lease/leased-method.js';
import type { ResultTicket } from '../order/result-ticket.js';
import { Unrecorded, type UnsentResult } from '../order/unrecorded.js';
import type { OnArrival } from '../wait/arrivals.js';
import { isEndedByHand } from './ended-by-hand.js';
import { type Attempt, decide } from './next-attempt.js';
import { deliverOutcome } from './settlement.js';
import type { StepCall, StepHost } from './step-host.js';

export type AttemptEnd =
  | { readonly kind: 'delivered' }
  /** Refused, because a cancel is requested or the run is paused: nothing is recorded of this attempt. */
  | { readonly kind: 'not_begun' }
  | { readonly kind: 'retry'; readonly delayMs: number };

/**
 * One attempt. The body starts at once: the lease is the right to it. Its beginning is recorded while it runs; a body that
 * has ended by the end of the present turn is recorded with its result, in one call and one write. The body waits until its
 * beginning is committed when it is executed at most once, and when the run has just lost its worker: a body that kills its
 * process must leave a trace.
 *
 * A result that is recorded together with its beginning may reach the code before it is recorded, see {@link Unrecorded}: always when
 * the step is recorded lazily, and when the code is expected to return after it.
 *
 * The fast path - body, one call, its answer - uses callbacks instead of promises: every step of every run takes it.
 */
export class StepAttempt implements CallHandler<CompleteStepResponse>, UnsentResult {
  readonly #host: StepHost;
  readonly #call: StepCall;
  readonly #attempt: Attempt;
  readonly #onEnd: (end: AttemptEnd) => void;
  readonly #body: StepBody;
  /** Whether the beginning was recorded; undefined when it was not sent yet. */
  #beginRecorded: Promise<boolean> | undefined;
  #beginTimer: NodeJS.Immediate | undefined;
  #hasResult = false;
  #ticket: ResultTicket | undefined;
  #copy: unknown;
  #request: RequestOf<'completeStep'> | undefined;
  /** The code is given the result before it is recorded. */
  #isEarly = false;
  /** An outcome from outside is told by this attempt. */
  #isExpecting = false;
  /** {@link #onEnd} was called. */
  #isOver = false;

  /** @param onEnd called once, unless the execution ends first */
  constructor(host: StepHost, call: StepCall, attempt: Attempt, onEnd: (end: AttemptEnd) => void) {
    this.#host = host;
    this.#call = call;
    this.#attempt = attempt;
    this.#onEnd = onEnd;
    const { step, options } = call;
    this.#body = new StepBody({
      body: call.body,
      stepId: step.stepId,
      attemptNumber: attempt.attemptNumber,
      countedAttempt: attempt.countedAttempt,
      timeoutMs: options.timeoutMs,
      heartbeatTimeoutMs: options.heartbeatTimeoutMs,
      uncancellable: step.uncancellable,
      host: host.reports,
    });
  }

  start(): void {
    // Somebody may end the step by hand after its last attempt: what is taken before a call of this one is refused is told in its turn.
    if (this.#attempt.attemptNumber > 1) this.#expect();
    if (!this.#call.options.atMostOnce && !this.#host.isSuspect) {
      this.#runBody();
      return;
    }
    this.#guard(async () => {
      if (await this.#recordBegin()) this.#runBody();
      else this.#end({ kind: 'not_begun' });
    });
  }

  #runBody(): void {
    this.#host.runBody(this.#body, (result) => this.#onResult(result));
    // The beginning of a lazy step is recorded with its result.
    if (this.#hasResult || this.#beginRecorded !== undefined || this.#call.options.isLazy) return;
    this.#beginTimer = setImmediate(() => {
      // A refusal must not have to wait for the body to end.
      void this.#host.faults.guard(async () => {
        if (!(await this.#recordBegin()) && !this.#isOver)
          this.#body.abort(this.#host.isPaused ? paused() : new CancelledError());
      });
    });
  }

  #onResult(result: BodyResult): void {
    if (this.#isOver) return;
    this.#hasResult = true;
    clearImmediate(this.#beginTimer);
    const encoded = result.ok ? encodeOutput(this.#host, this.#call.step.stepId, result.value) : result;
    if (encoded.ok && this.#beginRecorded === undefined) this.#complete(encoded);
    else this.#guard(() => this.#finish(encoded));
  }

  /** The attempt ends also when a call is not sent any more because the code must be replayed. */
  #guard(work: () => Promise<void>): void {
    void this.#host.faults.guard(async () => {
      try {
        await work();
      } catch (error) {
        if (isEndedByHand(error)) {
          this.#endedByHand();
          return;
        }
        if (error instanceof ExecutionEnded) this.#end({ kind: 'delivered' });
        throw error;
      }
    });
  }

  /** What failed is recorded apart from its beginning; an attempt whose beginning was sent waits until that is recorded. */
  async #finish(encoded: EncodedOutput): Promise<void> {
    if (!(await this.#recordBegin())) this.#end({ kind: 'not_begun' });
    else if (this.#isOver) return;
    else if (encoded.ok) this.#complete(encoded);
    else {
      const { abortReason } = this.#body;
      this.#end(await failAttempt(this.#host, this.#call, this.#attempt, encoded.error, abortReason));
    }
  }

  #complete({ output, copy }: Extract<EncodedOutput, { ok: true }>): void {
    const { step } = this.#call;
    const ticket = this.#host.delivery.reserve();
    this.#ticket = ticket;
    this.#copy = copy;
    this.#request = {
      stepId: step.stepId,
      attemptNumber: this.#attempt.attemptNumber,
      eventSeq: ticket.eventSeq,
      ...(output === undefined ? {} : { output }),
      ...(this.#isInstant ? { begin: this.#begin() } : {}),
    };
    this.#isEarly = this.#isInstant && this.#mayBeEarly(ticket);
    if (!this.#isEarly) {
      this.send();
      return;
    }
    this.#host.unrecorded.keep(this);
    // The body may have ended within the call of the code that began it: the code must stand still first.
    ticket.readyLater(() => this.#tell());
  }

  #mayBeEarly(ticket: ResultTicket): boolean {
    const { step, options } = this.#call;
    const host = this.#host;
    // After another attempt somebody may have ended the step by hand. Then this result is refused, but not those that the code comes to with it.
    if (this.#attempt.attemptNumber > 1) return false;
    if (host.cancellation.isRequested || host.isPaused || !Unrecorded.mayKeep(this.request)) return false;
    return options.isLazy || host.foretellsEnd(step.stepId, ticket);
  }

  /** The body has ended before its beginning was sent. */
  get #isInstant(): boolean {
    return this.#beginRecorded === undefined;
  }

  get request(): RequestOf<'completeStep'> {
    return this.#request as RequestOf<'completeStep'>;
  }

  get isLazy(): boolean {
    return this.#call.options.isLazy;
  }

  send(): void {
    if (this.#isEarly && !this.isLazy) this.#host.hasNotEnded(this.#call.step.stepId);
    // Results that were kept share the commit.
    this.#host.unrecorded.sendKept();
    this.#host.calls.send('completeStep', this.request, this, RESULT);
  }

  #tell(): void {
    this.#host.told(this.#isInstant ? this.#call.step.stepId : undefined);
    this.#call.settle.resolve(this.#copy);
  }

  /** The completion is committed. */
  onResponse(ack: CompleteStepResponse): void {
    const host = this.#host;
    if (this.#isEarly) {
      this.#advanceClock(ack);
      host.unrecorded.recorded(this);
    } else {
      this.#ticket?.ready(() => {
        this.#advanceClock(ack);
        this.#tell();
      });
    }
    if (ack.cancelRequested) host.cancel();
    this.#end({ kind: 'delivered' });
  }

  onRecordedWithEnd(): void {
    this.#host.unrecorded.recorded(this);
    this.#end({ kind: 'delivered' });
  }

  /** The completion is refused. */
  onError(error: unknown): void {
    if (!this.#isEarly) this.#ticket?.release();
    if (isEndedByHand(error)) this.#endedByHand();
    else this.#onRefusal(error);
    // A replay shows the code that the step is cancelled, or executes it when the run is resumed.
    if (this.#isEarly) this.#host.rewind();
    this.#end({ kind: this.#isEarly ? 'delivered' : 'not_begun' });
  }

  #end(end: AttemptEnd): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#isExpecting) this.#host.arrivals.forget(this.#call.step.stepId);
    this.#onEnd(end);
  }

  /** Somebody has ended the step by hand before this attempt did: the outcome is taken, and what the body does has no effect. */
  #endedByHand(): void {
    // It was taken and told before this attempt was refused.
    if (this.#isOver) return;
    const { stepId } = this.#call.step;
    this.#end({ kind: 'delivered' });
    this.#host.arrivals.takeFor(stepId, this.#told());
  }

  #expect(): void {
    this.#isExpecting = true;
    this.#host.arrivals.expect(this.#call.step.stepId, this.#told());
  }

  /** For when the outcome of the step comes from outside. */
  #told(): OnArrival {
    return (arrival, eventSeq) => {
      const host = this.#host;
      clearImmediate(this.#beginTimer);
      this.#body.abort(new CancelledError('The step was ended by hand. What its body still does has no effect.'));
      deliverOutcome(host, this.#call, { ...arrival, leaseToken: host.calls.leaseToken, eventSeq });
      this.#end({ kind: 'delivered' });
    };
  }

  onRefusedWithEnd(error: unknown): void {
    this.onError(error);
  }

  /** The result of a lazy step does not move the code's clock: the code may have it before its time is known. */
  #advanceClock({ finishedAt }: CompleteStepResponse): void {
    if (finishedAt !== undefined && !this.#call.options.isLazy) this.#host.facts.advanceClock(dateOf(finishedAt));
  }

  #begin() {
    const { step, options } = this.#call;
    return {
      seq: step.seq,
      kind: StepKind.FUNCTION,
      countedAttempt: this.#attempt.countedAttempt,
      maxCountedAttempts: Number.isFinite(options.retry.maxAttempts) ? options.retry.maxAttempts : 0,
      uncancellable: step.uncancellable,
    };
  }

  /**
   * Records the beginning, once.
   *
   * @returns false when a cancel is requested, the run is paused, or the step was ended by hand, so that the attempt may not begin
   */
  #recordBegin(): Promise<boolean> {
    this.#beginRecorded ??= this.#sendBegin();
    return this.#beginRecorded;
  }

  async #sendBegin(): Promise<boolean> {
    const { step, options } = this.#call;
    // From now on somebody may end the step by hand.
    this.#expect();
    try {
      await this.#host.calls.call('beginStep', {
        stepId: step.stepId,
        attemptNumber: this.#attempt.attemptNumber,
        ...this.#begin(),
        ...(options.timeoutMs === 0 ? {} : { timeout: durationOf(options.timeoutMs) }),
      });
      return true;
    } catch (error) {
      if (isEndedByHand(error)) this.#endedByHand();
      else this.#onRefusal(error);
      return false;
    }
  }

  /** @throws what does not mean that the attempt may not begin */
  #onRefusal(error: unknown): void {
    const reason = error instanceof RpcError ? error.reason : undefined;
    if (reason === 'CANCEL_REQUESTED') this.#host.cancel();
    else if (reason === 'RUN_PAUSED') this.#host.pause();
    else throw error;
  }
}

const paused = (): Error =>
  new LeaseLostError('The run is paused. This attempt was not recorded; the step is executed when the run is resumed.');

/** The body began on recorded results, so what came of it does not wait. */
const RESULT = { isResult: true } as const;

type EncodedOutput =
  | { readonly ok: true; readonly output: ReturnType<typeof encodeValue>; readonly copy: unknown }
  | { readonly ok: false; readonly error: unknown };

/** The code gets a copy that went through the codec, as every replay will. */
function encodeOutput(host: StepHost, stepId: string, value: unknown): EncodedOutput {
  try {
    const what = `The result of step '${stepId}'`;
    const output = encodeValue(host.codec, value, what);
    host.limit.check(output, what);
    const isPlain = typeof value !== 'object' || value === null;
    return { ok: true, output, copy: isPlain ? value : host.codec.decode(output as never) };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? markNonRetryable(error) : error };
  }
}

async function failAttempt(
  host: StepHost,
  { step, options, settle }: StepCall,
  attempt: Attempt,
  error: unknown,
  abortReason: Error | undefined,
): Promise<AttemptEnd> {
  const { stepId } = step;
  const { attemptNumber, countedAttempt } = attempt;
  // A body that ends with an error because it was asked to stop was cancelled, whatever it threw.
  const thrown =
    abortReason instanceof CancelledError && !(error instanceof CancelledError)
      ? new CancelledError(`Step '${stepId}' was cancelled.`, { cause: error })
      : error;
  const decision = decide(options.retry, thrown, countedAttempt);
  const isRetried = decision.retry && host.retryBudget.take(step.isCompensation);
  const final = decision.retry && !isRetried ? budgetError(host, stepId, thrown) : thrown;
  const failure = failureOf(
    host.codec,
    final,
    originIn(host.facts.run, stepId, countedAttempt, options.retry.maxAttempts),
  );
  await host.reports.flush(stepId);
  if (decision.retry && isRetried) {
    const delayMs = Math.min(decision.delayMs, MAX_DURATION_MS);
    const retryAfter = durationOf(delayMs);
    const answer = await host.calls.call('failStep', { stepId, attemptNumber, failure, retryAfter }, RESULT);
    if (answer.cancelRequested) host.cancel();
    return { kind: 'retry', delayMs };
  }
  const ticket = host.delivery.reserve();
  const { eventSeq } = ticket;
  const answer = await host.calls
    .call('failStep', { stepId, attemptNumber, failure, eventSeq }, RESULT)
    .catch((error: unknown) => {
      ticket.release();
      throw error;
    });
  ticket.ready(() => {
    host.told(undefined);
    if (answer.finishedAt !== undefined) host.facts.advanceClock(dateOf(answer.finishedAt));
    // As a replay would give it, so that code sees the same in both.
    const place = { leaseToken: host.calls.leaseToken, eventSeq, stepId };
    settle.reject(host.failures.delivered(errorOf(host.codec, failure), place, host.seq));
  });
  if (answer.cancelRequested) host.cancel();
  return { kind: 'delivered' };
}

function budgetError({ retryBudget }: StepHost, stepId: string, cause: unknown): RetryBudgetError {
  const all = retryBudget.max === 0 ? 'no retries' : `no retries left of ${retryBudget.max}`;
  return new RetryBudgetError(
    `Step '${stepId}' failed and is not retried: the steps of the run have ${all} in all (maxRetriesInAll): ${messageOf(cause)}`,
    { cause },
  );
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : shown(error));
