import {
  type AwaitRunResponse,
  type GetRunResponse,
  RunStatus,
  type WorkflowRun,
  type WorkflowService,
} from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import type { Duration } from '../duration.js';
import { durationMs } from '../duration.js';
import {
  AwaitTimeoutError,
  WorkflowCancelledError,
  WorkflowFailedError,
  WorkflowTerminatedError,
} from '../errors/errors.js';
import { errorOf } from '../errors/failure.js';
import type { ServiceClient } from '../rpc/connection.js';
import { durationMessage } from '../rpc/time.js';
import { type RunSummary, runSummary } from './run-summary.js';
import { untilAnswered } from './until-answered.js';

export interface ResultOptions {
  /** Give up waiting after this long; default: never. */
  readonly timeout?: Duration;
  /** Give up waiting when aborted. */
  readonly signal?: AbortSignal;
}

const AWAIT_MS = 20_000;

/** One run, as a client sees it. */
export class RunHandle<Output = unknown> {
  readonly runId: string;
  readonly workflowId: string;
  /** False when an equal earlier start had begun it. */
  readonly created: boolean;
  readonly #service: ServiceClient<typeof WorkflowService>;
  readonly #namespace: string;
  readonly #codec: Codec;

  /** Made by the client. */
  constructor(
    run: { readonly runId: string; readonly workflowId: string; readonly created: boolean },
    context: {
      readonly service: ServiceClient<typeof WorkflowService>;
      readonly namespace: string;
      readonly codec: Codec;
    },
  ) {
    this.runId = run.runId;
    this.workflowId = run.workflowId;
    this.created = run.created;
    this.#service = context.service;
    this.#namespace = context.namespace;
    this.#codec = context.codec;
  }

  /**
   * Waits for the run to end, through outages of the server.
   *
   * @returns what the workflow returned
   * @throws {WorkflowFailedError} with the workflow's own error as `cause`
   * @throws {WorkflowCancelledError | WorkflowTerminatedError}
   * @throws {AwaitTimeoutError} after `timeout`; the run goes on
   */
  async result(options: ResultOptions = {}): Promise<Output> {
    const timeoutMs = options.timeout === undefined ? undefined : durationMs(options.timeout, 'timeout');
    const untilMs = performance.now() + (timeoutMs ?? Number.POSITIVE_INFINITY);
    for (;;) {
      const waitMs = Math.max(0, Math.min(AWAIT_MS, Math.ceil(untilMs - performance.now())));
      const answer = await untilAnswered(
        () =>
          this.#service.awaitRun(
            { namespace: this.#namespace, runId: this.runId, wait: durationMessage(waitMs) },
            { timeoutMs: waitMs + 10_000, ...(options.signal === undefined ? {} : { signal: options.signal }) },
          ),
        untilMs - performance.now(),
      );
      if (answer.finished) return outputOf(answer, this.#codec) as Output;
      options.signal?.throwIfAborted();
      if (performance.now() >= untilMs) throw new AwaitTimeoutError(this, timeoutMs ?? 0);
    }
  }

  /** The run as it is now. */
  async get(): Promise<RunSummary> {
    const { run } = await untilAnswered<GetRunResponse>(() =>
      this.#service.getRun({ namespace: this.#namespace, runId: this.runId }),
    );
    return runSummary(run as WorkflowRun, this.#codec);
  }

  /** Asks the run to end; its code may clean up. Asking twice changes nothing. */
  async cancel(reason = ''): Promise<void> {
    await untilAnswered(() => this.#service.cancelRun({ namespace: this.#namespace, runId: this.runId, reason }));
  }

  /** Ends the run at once; its code gets no chance to clean up. */
  async terminate(reason = ''): Promise<void> {
    await untilAnswered(() => this.#service.terminateRun({ namespace: this.#namespace, runId: this.runId, reason }));
  }
}

/** @throws the error that the run ended with */
function outputOf(run: AwaitRunResponse, codec: Codec): unknown {
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
