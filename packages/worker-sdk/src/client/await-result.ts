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
import { longCall } from '../rpc/long-call.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { CallOptions, ServiceClient } from '../rpc/service-client.js';
import { durationMessage } from '../rpc/time.js';
import type { OutageNotice } from './outage-notice.js';
import type { PayloadLimit } from './payload-limit.js';
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
  readonly outage: OutageNotice;
  readonly limit: PayloadLimit;
}

/** How a run ended, as AwaitRun and ExecuteWorkflow tell it. */
export type ToldEnd = Pick<AwaitRunResponse, 'runId' | 'workflowId' | 'status' | 'output' | 'failure' | 'cancelReason'>;

/** One call waits that long for the end, in ms; then it is asked again. */
const WAIT_MS = 20_000;
/** A call that is answered at the end of its wait needs this long to come back, in ms; nobody waits longer for it. */
const LATE_MS = 500;

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
    const { timeoutMs = 0, ...options } = longCall(waitMs, this.signal);
    return { waitMs, options: { timeoutMs: Math.min(timeoutMs, Math.max(0, this.remainingMs) + LATE_MS), ...options } };
  }
}

/**
 * Waits for a run to end, through outages of the server.
 *
 * @param workflowType for messages; undefined when it is not known
 * @returns what the workflow returned
 * @throws {WorkflowFailedError | WorkflowCancelledError | WorkflowTerminatedError} how else it ended
 * @throws {AwaitTimeoutError} when patience ends; the run continues
 * @throws the signal's reason when it is aborted; the run continues
 */
export async function awaitResult(
  context: ClientContext,
  { runId, workflowId }: { readonly runId: string; readonly workflowId: string },
  workflowType: string | undefined,
  patience: ResultPatience,
): Promise<unknown> {
  const { codec } = context;
  const run = { runId, workflowId, workflowType };
  for (;;) {
    const answer = await awaitOnce(context, run, patience);
    if (answer.ended) return outputOf(answer, workflowType, codec);
    if (patience.remainingMs <= 0) throw new AwaitTimeoutError(run, patience.timeoutMs);
  }
}

async function awaitOnce(
  { service, namespace, outage }: ClientContext,
  run: { readonly runId: string; readonly workflowId: string; readonly workflowType: string | undefined },
  patience: ResultPatience,
): Promise<AwaitRunResponse> {
  try {
    return await untilAnswered(
      outage,
      () => {
        const { waitMs, options } = patience.nextCall();
        return service.awaitRun({ namespace, runId: run.runId, wait: durationMessage(waitMs) }, options);
      },
      { patienceMs: patience.remainingMs, signal: patience.signal },
    );
  } catch (error) {
    if (!(error instanceof RpcError) || !error.isTransient) throw error;
    throw new AwaitTimeoutError(run, patience.timeoutMs, { cause: error });
  }
}

/** @throws the error that the run ended with */
export function outputOf(end: ToldEnd, workflowType: string | undefined, codec: Codec): unknown {
  const run = { runId: end.runId, workflowId: end.workflowId, workflowType };
  switch (end.status) {
    case RunStatus.COMPLETED:
      return decodeValue(codec, end.output);
    case RunStatus.CANCELLED:
      throw new WorkflowCancelledError(run, end.cancelReason);
    case RunStatus.TERMINATED:
      throw new WorkflowTerminatedError(run, end.failure?.message ?? end.cancelReason);
    default:
      throw end.failure === undefined
        ? new WorkflowFailedError(run, new Error(`It is ${RunStatus[end.status]}.`))
        : new WorkflowFailedError(run, errorOf(codec, end.failure), end.failure.stepId);
  }
}
