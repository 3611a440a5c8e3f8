import { createHash } from 'node:crypto';
import { StepKind } from '@perdure/proto';
import { encodeValue } from '../codec/payload.js';
import { CancelledError } from '../errors/errors.js';
import { errorOf, failureOf, markNonRetryable } from '../errors/failure.js';
import { decideRetry, type RetryDecision } from '../retry.js';
import { RpcError } from '../rpc/rpc-error.js';
import { dateOf, durationMessage } from '../rpc/time.js';
import type { RunExecution } from './run-execution.js';
import { StepBody } from './step-body.js';
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
 */
export async function executeAttempt(execution: RunExecution, call: StepCall, attempt: Attempt): Promise<AttemptEnd> {
  const { step, options } = call;
  const begin: Begin = {
    seq: step.seq,
    kind: StepKind.FUNCTION,
    tryNumber: attempt.tryNumber,
    maxTries: Number.isFinite(options.retry.maxAttempts) ? options.retry.maxAttempts : 0,
    uncancellable: step.uncancellable,
  };
  const announce = () => announceAttempt(execution, call, attempt, begin);
  let announced: Promise<boolean> | undefined;
  if (options.atMostOnce) {
    announced = announce();
    if (!(await announced)) return { kind: 'cancelled' };
  }
  const body = new StepBody({
    body: call.body,
    stepId: step.stepId,
    ...attempt,
    idempotencyKey: idempotencyKey(execution.run.runId, step.stepId),
    timeoutMs: options.timeoutMs,
    heartbeatTimeoutMs: options.heartbeatTimeoutMs,
    uncancellable: step.uncancellable,
    onHeartbeat: (detail) => execution.recordHeartbeat(step.stepId, attempt.attemptNumber, detail),
    lastHeartbeat: () => execution.heartbeats.last(step.stepId),
  });
  const running = execution.runBody(body);
  if (announced === undefined && !(await endsThisTurn(running))) {
    const recording = announce();
    announced = recording;
    // A refusal must not have to wait for the body to end.
    execution.activity(async () => {
      if (!(await recording)) body.abort(new CancelledError());
    });
  }
  const result = await running;
  if (announced !== undefined && !(await announced)) return { kind: 'cancelled' };
  const encoded = result.ok ? encodeOutput(execution, step.stepId, result.value) : result;
  if (!encoded.ok) {
    if (announced === undefined && !(await announce())) return { kind: 'cancelled' };
    return failAttempt(execution, call, attempt, encoded.error, body.abortReason);
  }
  const slot = execution.delivery.reserve();
  const ack = await unlessCancelled(
    execution,
    execution.calls.call('completeStep', {
      stepId: step.stepId,
      attemptNumber: attempt.attemptNumber,
      eventSeq: slot.eventSeq,
      ...(encoded.output === undefined ? {} : { output: encoded.output }),
      ...(announced === undefined ? { begin } : {}),
    }),
  );
  if (ack === 'cancelled') {
    slot.release();
    return { kind: 'cancelled' };
  }
  slot.ready(() => {
    if (ack.finishedAt !== undefined) execution.advanceClock(dateOf(ack.finishedAt));
    call.settle.resolve(encoded.copy);
  });
  if (ack.cancelRequested) execution.cancel();
  return { kind: 'delivered' };
}

interface Begin {
  readonly seq: number;
  readonly kind: StepKind;
  readonly tryNumber: number;
  readonly maxTries: number;
  readonly uncancellable: boolean;
}

/** @returns false when a cancel was asked for, so that the attempt may not begin */
async function announceAttempt(
  execution: RunExecution,
  { step, options }: StepCall,
  { attemptNumber }: Attempt,
  begin: Begin,
): Promise<boolean> {
  const answer = await unlessCancelled(
    execution,
    execution.calls.call('beginStep', {
      stepId: step.stepId,
      attemptNumber,
      ...begin,
      ...(options.timeoutMs === 0 ? {} : { timeout: durationMessage(options.timeoutMs) }),
    }),
  );
  return answer !== 'cancelled';
}

async function unlessCancelled<T>(execution: RunExecution, call: Promise<T>): Promise<T | 'cancelled'> {
  try {
    return await call;
  } catch (error) {
    if (!(error instanceof RpcError) || error.reason !== 'CANCEL_REQUESTED') throw error;
    execution.cancel();
    return 'cancelled';
  }
}

/** Whether something ends before the event loop turns: then nothing of it needs to be told before its result. */
function endsThisTurn(work: Promise<unknown>): Promise<boolean> {
  return new Promise((resolve) => {
    const turned = setImmediate(() => resolve(false));
    const ended = () => {
      clearImmediate(turned);
      resolve(true);
    };
    work.then(ended, ended);
  });
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
    settle.reject(execution.blame.set(errorOf(execution.codec, failure), stepId));
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

const MAX_KEY_BYTES = 128;

function idempotencyKey(runId: string, stepId: string): string {
  const key = `${runId}:${stepId}`;
  if (Buffer.byteLength(key) <= MAX_KEY_BYTES) return key;
  return `${runId}:${createHash('sha256').update(stepId).digest('base64url')}`;
}
