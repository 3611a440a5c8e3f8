import { type AwaitRunResponse, RunStatus, type WorkflowService } from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import { type Duration, durationMs } from '../duration.js';
import {
  AwaitTimeoutError,
  WorkflowCancelledError,
  WorkflowFailedError,
  WorkflowTerminatedError,
} from '../errors/errors.js';
import { errorOf } from '../errors/failure.js';
import type { CallOptions, ServiceClient } from '../rpc/connection.js';
import { longCall } from '../rpc/long-call.js';
import { durationMessage } from '../rpc/time.js';
import { untilAnswered } from './until-answered.js';

export interface ResultOptions {
  /** Give up waiting after this long; default: never. */
  readonly timeout?: Duration | undefined;
  /** Give up waiting when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** What a client's handles share. */
export interface ClientContext {
  readonly service: ServiceClient<typeof WorkflowService>;
  readonly namespace: string;
  readonly codec: Codec;
}

/** How a run ended, as AwaitRun and ExecuteWorkflow tell it. */
export type ToldEnd = Pick<AwaitRunResponse, 'runId' | 'workflowId' | 'status' | 'output' | 'failure' | 'cancelReason'>;

/** One call waits that long for the end, in ms; then it is asked again. */
const WAIT_MS = 20_000;

/** How long somebody is willing to wait for a result, from now on. */
export class ResultPatience {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly #untilMs: number;

  /** @throws {TypeError} when the timeout is no duration */
  constructor({ timeout, signal }: ResultOptions) {
    this.timeoutMs = timeout === undefined ? Number.POSITIVE_INFINITY : durationMs(timeout, 'timeout');
    this.signal = signal;
    this.#untilMs = performance.now() + this.timeoutMs;
  }

  get remainingMs(): number {
    return this.#untilMs - performance.now();
  }

  /** How long the server should wait in the next call, in ms, and the options of that call. */
  nextCall(maxWaitMs: number = WAIT_MS): { readonly waitMs: number; readonly options: CallOptions } {
    const waitMs = Math.max(0, Math.min(maxWaitMs, Math.ceil(this.remainingMs)));
    return { waitMs, options: longCall(waitMs, this.signal) };
  }
}

/**
 * Waits for a run to end, through outages of the server.
 *
 * @returns what the workflow returned
 * @throws {WorkflowFailedError | WorkflowCancelledError | WorkflowTerminatedError} how else it ended
 * @throws {AwaitTimeoutError} when patience ends; the run goes on
 */
export async function awaitResult(
  { service, namespace, codec }: ClientContext,
  run: { readonly runId: string; readonly workflowId: string },
  patience: ResultPatience,
): Promise<unknown> {
  for (;;) {
    const { waitMs, options } = patience.nextCall();
    const answer = await untilAnswered(
      () => service.awaitRun({ namespace, runId: run.runId, wait: durationMessage(waitMs) }, options),
      patience.remainingMs,
    );
    if (answer.finished) return outputOf(answer, codec);
    patience.signal?.throwIfAborted();
    if (patience.remainingMs <= 0) throw new AwaitTimeoutError(run, patience.timeoutMs);
  }
}

/** @throws the error that the run ended with */
export function outputOf(run: ToldEnd, codec: Codec): unknown {
  const reason = run.failure?.message ?? run.cancelReason;
  switch (run.status) {
    case RunStatus.COMPLETED:
      return decodeValue(codec, run.output);
    case RunStatus.CANCELLED:
      throw new WorkflowCancelledError(run, run.cancelReason);
    case RunStatus.TERMINATED:
      throw new WorkflowTerminatedError(run, reason);
    default:
      throw new WorkflowFailedError(
        run,
        run.failure === undefined ? new Error(`It is ${RunStatus[run.status]}.`) : errorOf(codec, run.failure),
      );
  }
}
