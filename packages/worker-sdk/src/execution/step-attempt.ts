import { type CompleteStepResponse, StepKind } from '@perdure/proto';
import { encodeValue } from '../codec/payload.js';
import { CancelledError } from '../errors/errors.js';
import { errorOf, failureOf, markNonRetryable } from '../errors/failure.js';
import { decideRetry, type RetryDecision } from '../retry.js';
import { RpcError } from '../rpc/rpc-error.js';
import { dateOf, durationMessage } from '../rpc/time.js';
import { blame } from './blame.js';
import type { Slot } from './delivery-queue.js';
import type { CallHandler } from './leased-calls.js';
import type { RunExecution } from './run-execution.js';
import { type BodyResult, StepBody } from './step-body.js';
import type { StepCall } from './step-call.js';
import type { ResolvedStepOptions } from './step-options.js';

export interface Attempt {
  readonly attemptNumber: number;
  readonly tryNumber: number;
}

export type AttemptEnd =
  | { readonly kind: 'delivered' }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'retry'; readonly delayMs: number };

/**
 * One attempt. The body starts at once: the lease is the right to it. Its beginning is recorded while it runs; a body that
 * has ended by the end of the present turn is recorded with its result, in one call and one write. With `begin: 'durable'`
 * the body waits until its beginning is committed.
 *
 * The usual way - body, one call, its answer - goes from callback to callback: it is what every step of every run takes.
 */
export class StepAttempt implements CallHandler<CompleteStepResponse> {
  readonly #execution: RunExecution;
  readonly #call: StepCall;
  readonly #attempt: Attempt;
  readonly #onEnd: (end: AttemptEnd) => void;
  readonly #body: StepBody;
  /** Whether the beginning was recorded; undefined when it was not sent yet. */
  #announced: Promise<boolean> | undefined;
  #turned: NodeJS.Immediate | undefined;
  #hasResult = false;
  #slot: Slot | undefined;
  #copy: unknown;

  /** @param onEnd called once, unless the execution ends first */
  constructor(execution: RunExecution, call: StepCall, attempt: Attempt, onEnd: (end: AttemptEnd) => void) {
    this.#execution = execution;
    this.#call = call;
    this.#attempt = attempt;
    this.#onEnd = onEnd;
    const { step, options } = call;
    this.#body = new StepBody({
      body: call.body,
      stepId: step.stepId,
      attemptNumber: attempt.attemptNumber,
      tryNumber: attempt.tryNumber,
      timeoutMs: options.timeoutMs,
      heartbeatTimeoutMs: options.heartbeatTimeoutMs,
      uncancellable: step.uncancellable,
      host: execution,
    });
  }

  start(): void {
    if (!this.#call.options.atMostOnce) {
      this.#runBody();
      return;
    }
    this.#execution.activity(async () => {
      if (await this.#announce()) this.#runBody();
      else this.#onEnd({ kind: 'cancelled' });
    });
  }

  #runBody(): void {
    this.#execution.runBody(this.#body, (result) => this.#onResult(result));
    if (this.#hasResult || this.#announced !== undefined) return;
    this.#turned = setImmediate(() => {
      // A refusal must not have to wait for the body to end.
      this.#execution.activity(async () => {
        if (!(await this.#announce())) this.#body.abort(new CancelledError());
      });
    });
  }

  #onResult(result: BodyResult): void {
    this.#hasResult = true;
    clearImmediate(this.#turned);
    const encoded = result.ok ? encodeOutput(this.#execution, this.#call.step.stepId, result.value) : result;
    if (encoded.ok && this.#announced === undefined) this.#complete(encoded);
    else this.#execution.activity(() => this.#finish(encoded));
  }

  /** What failed is recorded apart from its beginning; what was announced waits for that to be recorded. */
  async #finish(encoded: EncodedOutput): Promise<void> {
    if (!(await this.#announce())) this.#onEnd({ kind: 'cancelled' });
    else if (encoded.ok) this.#complete(encoded);
    else {
      const { abortReason } = this.#body;
      this.#onEnd(await failAttempt(this.#execution, this.#call, this.#attempt, encoded.error, abortReason));
    }
  }

  #complete({ output, copy }: Extract<EncodedOutput, { ok: true }>): void {
    const { step } = this.#call;
    const slot = this.#execution.delivery.reserve();
    this.#slot = slot;
    this.#copy = copy;
    this.#execution.calls.send(
      'completeStep',
      {
        stepId: step.stepId,
        attemptNumber: this.#attempt.attemptNumber,
        eventSeq: slot.eventSeq,
        ...(output === undefined ? {} : { output }),
        ...(this.#announced === undefined ? { begin: this.#begin() } : {}),
      },
      this,
    );
  }

  /** The completion is committed. */
  onResponse(ack: CompleteStepResponse): void {
    const execution = this.#execution;
    this.#slot?.ready(() => {
      if (ack.finishedAt !== undefined) execution.advanceClock(dateOf(ack.finishedAt));
      this.#call.settle.resolve(this.#copy);
    });
    if (ack.cancelRequested) execution.cancel();
    this.#onEnd({ kind: 'delivered' });
  }

  /** The completion is refused. */
  onError(error: unknown): void {
    this.#slot?.release();
    if (!isCancelRequested(error)) throw error;
    this.#execution.cancel();
    this.#onEnd({ kind: 'cancelled' });
  }

  #begin() {
    const { step, options } = this.#call;
    return {
      seq: step.seq,
      kind: StepKind.FUNCTION,
      tryNumber: this.#attempt.tryNumber,
      maxTries: Number.isFinite(options.retry.maxAttempts) ? options.retry.maxAttempts : 0,
      uncancellable: step.uncancellable,
    };
  }

  /**
   * Records the beginning, once.
   *
   * @returns false when a cancel was asked for, so that the attempt may not begin
   */
  #announce(): Promise<boolean> {
    this.#announced ??= this.#sendBegin();
    return this.#announced;
  }

  async #sendBegin(): Promise<boolean> {
    const { step, options } = this.#call;
    try {
      await this.#execution.calls.call('beginStep', {
        stepId: step.stepId,
        attemptNumber: this.#attempt.attemptNumber,
        ...this.#begin(),
        ...(options.timeoutMs === 0 ? {} : { timeout: durationMessage(options.timeoutMs) }),
      });
      return true;
    } catch (error) {
      if (!isCancelRequested(error)) throw error;
      this.#execution.cancel();
      return false;
    }
  }
}

function isCancelRequested(error: unknown): boolean {
  return error instanceof RpcError && error.reason === 'CANCEL_REQUESTED';
}

type EncodedOutput =
  | { readonly ok: true; readonly output: ReturnType<typeof encodeValue>; readonly copy: unknown }
  | { readonly ok: false; readonly error: unknown };

/** The code gets a copy that went through the codec, as every replay will. */
function encodeOutput(execution: RunExecution, stepId: string, value: unknown): EncodedOutput {
  try {
    const output = encodeValue(execution.codec, value);
    execution.checkSize(output, `The result of step '${stepId}'`);
    const isPlain = typeof value !== 'object' || value === null;
    return { ok: true, output, copy: isPlain ? value : execution.codec.decode(output as never) };
  } catch (error) {
    if (!(error instanceof Error)) return { ok: false, error };
    error.message = `The result of step '${stepId}' cannot be recorded: ${error.message}`;
    return { ok: false, error: markNonRetryable(error) };
  }
}

async function failAttempt(
  execution: RunExecution,
  { step, options, settle }: StepCall,
  attempt: Attempt,
  error: unknown,
  abortReason: Error | undefined,
): Promise<AttemptEnd> {
  const { stepId } = step;
  const { attemptNumber, tryNumber } = attempt;
  // A body that ends with an error because it was asked to stop was cancelled, whatever it threw.
  const thrown =
    abortReason instanceof CancelledError && !(error instanceof CancelledError)
      ? new CancelledError(`Step '${stepId}' was cancelled.`, { cause: error })
      : error;
  const decision = decide(options, thrown, tryNumber);
  const failure = failureOf(execution.codec, thrown);
  await execution.flushHeartbeat(stepId);
  if (decision.retry) {
    const ack = await execution.calls.call('failStep', {
      stepId,
      attemptNumber,
      failure,
      retryAfter: durationMessage(decision.delayMs),
    });
    if (ack.cancelRequested) execution.cancel();
    return { kind: 'retry', delayMs: decision.delayMs };
  }
  const slot = execution.delivery.reserve();
  const ack = await execution.calls.call('failStep', { stepId, attemptNumber, failure, eventSeq: slot.eventSeq });
  slot.ready(() => {
    if (ack.finishedAt !== undefined) execution.advanceClock(dateOf(ack.finishedAt));
    // As a replay would give it, so that code sees the same in both.
    settle.reject(blame(errorOf(execution.codec, failure), stepId));
  });
  if (ack.cancelRequested) execution.cancel();
  return { kind: 'delivered' };
}

/** An author's matcher that throws must not wedge the failure path. */
function decide({ retry }: ResolvedStepOptions, error: unknown, tryNumber: number): RetryDecision {
  try {
    return decideRetry(retry, { error, tryNumber, random: Math.random(), nowMs: Date.now() });
  } catch {
    // What it threw is worth less to people than the error that it was asked about.
    return { retry: false, why: 'non_retryable' };
  }
}
