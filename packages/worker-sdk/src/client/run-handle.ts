import type { GetRunResponse, WorkflowRun } from '@perdure/proto';
import { refuseUnknownKeys } from '../options.js';
import { awaitResult, type ClientContext, type ResultOptions, ResultPatience } from './await-result.js';
import { type RunSummary, runSummary } from './run-summary.js';
import { untilAnswered } from './until-answered.js';

/** One run, as a client sees it. */
export class RunHandle<Output = unknown> {
  readonly runId: string;
  readonly workflowId: string;
  /** False when an equal earlier start had begun it. */
  readonly created: boolean;
  readonly #context: ClientContext;
  readonly #workflowType: string | undefined;

  /**
   * Made by the client.
   *
   * @param workflowType for messages; undefined when only the run id is known
   */
  constructor(
    run: { readonly runId: string; readonly workflowId: string; readonly created: boolean },
    workflowType: string | undefined,
    context: ClientContext,
  ) {
    this.runId = run.runId;
    this.workflowId = run.workflowId;
    this.created = run.created;
    this.#workflowType = workflowType;
    this.#context = context;
  }

  /**
   * Waits for the run to end, through outages of the server.
   *
   * @returns what the workflow returned
   * @throws {WorkflowFailedError} with the workflow's own error as `cause`
   * @throws {WorkflowCancelledError | WorkflowTerminatedError}
   * @throws {AwaitTimeoutError} after `timeout`; the run continues
   * @throws the signal's reason when it is aborted; the run continues
   */
  async result(options: ResultOptions = {}): Promise<Output> {
    refuseUnknownKeys('A result', options, ['timeout', 'signal']);
    return (await awaitResult(this.#context, this, this.#workflowType, new ResultPatience(options))) as Output;
  }

  /** The run as it is now. */
  async get(): Promise<RunSummary> {
    const { service, namespace, codec, outage } = this.#context;
    const { run } = await untilAnswered<GetRunResponse>(outage, (options) =>
      service.getRun({ namespace, runId: this.runId }, options),
    );
    return runSummary(run as WorkflowRun, codec);
  }

  /** Asks the run to end; its code may clean up. Asking twice changes nothing. */
  async cancel(reason = ''): Promise<void> {
    const { service, namespace, outage } = this.#context;
    await untilAnswered(outage, (options) => service.cancelRun({ namespace, runId: this.runId, reason }, options));
  }

  /** Ends the run at once; its code gets no chance to clean up. */
  async terminate(reason = ''): Promise<void> {
    const { service, namespace, outage } = this.#context;
    await untilAnswered(outage, (options) => service.terminateRun({ namespace, runId: this.runId, reason }, options));
  }

  /**
   * Deletes the run, its steps and payloads, for ever. Its workflow id and request id may be used again.
   *
   * @throws {RpcError} WRONG_RUN_STATE while the run is open; RUN_NOT_FOUND when it is not there (any more)
   */
  async delete(): Promise<void> {
    const { service, namespace, outage } = this.#context;
    await untilAnswered(outage, (options) => service.deleteRun({ namespace, runId: this.runId }, options));
  }
}
