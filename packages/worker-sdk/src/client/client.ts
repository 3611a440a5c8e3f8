import { create } from '@bufbuild/protobuf';
import {
  AdminService,
  durationOf,
  type ExecuteWorkflowResponse,
  WorkflowRunSchema,
  WorkflowService,
} from '@perdure/proto';
import type { Logger } from 'pino';
import type { Codec } from '../codec/codec.js';
import { devalueCodec } from '../codec/devalue-codec.js';
import { refuseUnknownKeys } from '../options.js';
import { Connection } from '../rpc/connection.js';
import { RpcError } from '../rpc/rpc-error.js';
import type { Signal } from '../signal.js';
import type { Workflow } from '../workflow.js';
import { awaitResult, outputOf } from './await-result.js';
import { ClientControl } from './client-control.js';
import { type ListOptions, listRequest } from './list-options.js';
import { OutageReport } from './outage-report.js';
import { inputRefusal, PayloadLimit } from './payload-limit.js';
import { ResultDeadline, type ResultOptions } from './result-deadline.js';
import { DEFAULT_GIVE_UP_MS, type RetryUntilAnsweredOptions, retryUntilAnswered } from './retry-until-answered.js';
import { RunHandle } from './run-handle.js';
import { type RunSummary, runSummary } from './run-summary.js';
import { type SignalWithStartOptions, signalWithStart } from './signal-with-start.js';
import { checkStartOptions, type InputAnd, type StartItem, type StartOptions } from './start-options.js';
import { inBatches, inputOf, nameOf, type StartRequest, startError, startRequest } from './start-request.js';

/** Options of a {@link Client}. */
export interface ClientOptions {
  /** `host:port`, or several separated by commas; default: environment variable PERDURE_ADDRESS, else `127.0.0.1:7300`. */
  readonly address?: string;
  /** A connection to share; default: one of its own, to `address`. */
  readonly connection?: Connection;
  /** Default: environment variable PERDURE_NAMESPACE, else `default`. */
  readonly namespace?: string;
  /** Default {@link devalueCodec}. Clients and workers of a workflow must use the same. */
  readonly codec?: Codec;
  /** Receives one `warn` per outage, once no server has answered for 1 s; default: one line on stderr. */
  readonly logger?: Pick<Logger, 'warn'>;
}

const KNOWN: readonly (keyof ClientOptions)[] = ['address', 'connection', 'namespace', 'codec', 'logger'];

/**
 * Wait of the first call of an execute, in ms. Until it is answered it is unknown whether the run was started, and an outage is
 * tolerated for as long as for a start; afterwards for as long as for the result.
 */
const EXECUTE_WAIT_MS = 2_000;

/**
 * Starts runs, reads them and acts on them. Calls are repeated for up to 30 s while no server can be reached; that is safe,
 * since each start carries a request id. After 1 s without a server one line says which address does not answer.
 */
export class Client extends ClientControl {
  /** The namespace of all its runs. */
  readonly namespace: string;
  readonly #connection: Connection;
  readonly #ownsConnection: boolean;

  /** @throws {TypeError} naming the option that is wrong */
  constructor(options: ClientOptions = {}) {
    refuseUnknownKeys('A client', options, KNOWN);
    const connection =
      options.connection ?? new Connection(options.address === undefined ? {} : { address: options.address });
    const outage = new OutageReport(options.logger);
    const admin = connection.service(AdminService);
    super({
      service: connection.service(WorkflowService),
      admin,
      namespace: options.namespace ?? (process.env.PERDURE_NAMESPACE || 'default'),
      codec: options.codec ?? devalueCodec,
      outage,
      limit: new PayloadLimit(admin, outage),
    });
    this.namespace = this.context.namespace;
    this.#connection = connection;
    this.#ownsConnection = options.connection === undefined;
  }

  /**
   * Starts a run.
   *
   * @param workflow the definition, or its name when its code is not at hand
   * @param inputAndOptions input and options; a workflow without input needs options alone
   * @returns once the start is committed
   * @throws {TypeError} naming the option that is wrong, or the part of the input that cannot be encoded
   * @throws {InvalidInputError} when the input does not fit the workflow's schema
   * @throws {PayloadTooLargeError} when the input is larger than the server accepts
   * @throws {RpcError} ALREADY_EXISTS when the workflow id belongs to an open run with another input, and other refusals;
   *   UNAVAILABLE when no server has answered for 30 s
   */
  async start<Input, Output>(
    workflow: Workflow<Input, Output> | string,
    ...inputAndOptions: InputAnd<StartOptions, Input>
  ): Promise<RunHandle<Output>> {
    const { input, options } = split('start', inputAndOptions);
    const request = await startRequest(this.context, workflow, input, options);
    return this.#handle<Output>(await this.#start(request), request.workflowType);
  }

  /**
   * Starts a run and waits for its result; see {@link start} and {@link RunHandle.result}. A `timeout` covers
   * both: it rejects with AwaitTimeoutError when the run was started, with an RpcError when no server has answered.
   */
  async execute<Input, Output>(
    workflow: Workflow<Input, Output> | string,
    ...inputAndOptions: InputAnd<StartOptions & ResultOptions, Input>
  ): Promise<Output> {
    const { input, options } = split('execute', inputAndOptions);
    const deadline = new ResultDeadline(options);
    deadline.signal?.throwIfAborted();
    const request = await startRequest(this.context, workflow, input, options, startRetries(deadline));
    const executed = await this.#executeOnce(request, deadline);
    if (executed?.ended) return outputOf(executed, request.workflowType, this.context.codec) as Output;
    const run = executed ?? (await this.#start(request, deadline));
    return (await awaitResult(this.context, run, request.workflowType, deadline)) as Output;
  }

  async #start(request: StartRequest, deadline?: ResultDeadline) {
    try {
      return await retryUntilAnswered(
        this.context.outage,
        (options) => this.context.service.startWorkflow(request, options),
        startRetries(deadline),
      );
    } catch (error) {
      throw refusal(error, request);
    }
  }

  /** @returns undefined when no server answered; the start is repeated then, with the same request id */
  async #executeOnce(request: StartRequest, deadline: ResultDeadline): Promise<ExecuteWorkflowResponse | undefined> {
    const { waitMs, options } = deadline.nextCall(EXECUTE_WAIT_MS);
    try {
      return await this.context.service.executeWorkflow({ start: request, wait: durationOf(waitMs) }, options);
    } catch (error) {
      deadline.signal?.throwIfAborted();
      if (error instanceof RpcError && error.isTransient) return undefined;
      throw refusal(error, request);
    }
  }

  /**
   * Starts many runs, up to 500 with one call.
   *
   * @returns a handle, or the error of that start, for each input, in their order
   * @throws what {@link start} throws before it calls the server; no run is started then
   */
  async startMany<Input, Output>(
    workflow: Workflow<Input, Output> | string,
    starts: readonly StartItem<Input>[],
  ): Promise<(RunHandle<Output> | RpcError)[]> {
    const requests = await Promise.all(
      starts.map(async ({ input, options }) => {
        checkStartOptions('start', options);
        return startRequest(this.context, workflow, input, options);
      }),
    );
    const results: (RunHandle<Output> | RpcError)[] = [];
    for (const runs of inBatches(requests)) {
      const { outcomes } = await retryUntilAnswered(this.context.outage, (options) =>
        this.context.service.startWorkflows({ namespace: this.namespace, runs }, options),
      );
      for (const { result } of outcomes) {
        if (result.case === 'started') results.push(this.#handle<Output>(result.value, nameOf(workflow)));
        else results.push(startError(result.value));
      }
    }
    return results;
  }

  /** A handle for a run by its run id; makes no call, so the run need not exist. */
  handle<Output = unknown>(runId: string): RunHandle<Output> {
    return this.#handle<Output>({ runId, workflowId: '', created: false }, undefined);
  }

  /**
   * Reads a run.
   *
   * @param run a run id, or a workflow id: then its open run, else its newest
   * @throws {RpcError} RUN_NOT_FOUND; UNAVAILABLE when no server has answered for 30 s
   */
  async get(run: { readonly runId: string } | { readonly workflowId: string }): Promise<RunSummary> {
    const answer = await retryUntilAnswered(this.context.outage, (options) =>
      this.context.service.getRun({ namespace: this.namespace, ...run }, options),
    );
    return runSummary(answer.run ?? create(WorkflowRunSchema), this.context.codec);
  }

  /**
   * Lists runs, newest first, without inputs and outputs; pages are fetched on demand.
   *
   * @throws {TypeError} naming the option that is wrong
   */
  async *list(options: ListOptions = {}): AsyncGenerator<RunSummary> {
    const request = listRequest(this.namespace, options);
    let pageToken = '';
    do {
      const answer = await retryUntilAnswered(this.context.outage, (callOptions) =>
        this.context.service.listRuns({ ...request, pageToken }, callOptions),
      );
      for (const run of answer.runs) yield runSummary(run, this.context.codec);
      pageToken = answer.nextPageToken;
    } while (pageToken !== '');
  }

  /**
   * Signals the open run of a workflow id, whatever its input; or starts one and signals it, in one commit.
   *
   * @param input of the run, when it is started; undefined when it has none
   * @returns the run; `created` tells whether this call or a repeat of it has started it
   * @throws what {@link start} and {@link signal} throw
   */
  async signalWithStart<Input, Output, Sent>(
    workflow: Workflow<Input, Output> | string,
    input: Input,
    signal: Signal<Sent, unknown> | string,
    payload: Sent,
    options: SignalWithStartOptions,
  ): Promise<RunHandle<Output>> {
    const request = { workflow, input, signal: signal as Signal | string, payload, options };
    return this.#handle<Output>(await signalWithStart(this.context, request), nameOf(workflow));
  }

  /** Requests that a run end; see {@link RunHandle.cancel}. */
  async cancel(run: { readonly runId: string } | { readonly workflowId: string }, reason = ''): Promise<void> {
    await retryUntilAnswered(this.context.outage, (options) =>
      this.context.service.cancelRun({ namespace: this.namespace, ...run, reason }, options),
    );
  }

  /** Ends a run immediately; see {@link RunHandle.terminate}. */
  async terminate(run: { readonly runId: string } | { readonly workflowId: string }, reason = ''): Promise<void> {
    await retryUntilAnswered(this.context.outage, (options) =>
      this.context.service.terminateRun({ namespace: this.namespace, ...run, reason }, options),
    );
  }

  /** Deletes an ended run; for a workflow id, its newest; see {@link RunHandle.delete}. */
  async delete(run: { readonly runId: string } | { readonly workflowId: string }): Promise<void> {
    const { runId } = 'runId' in run ? run : await this.get(run);
    await retryUntilAnswered(this.context.outage, (options) =>
      this.context.service.deleteRun({ namespace: this.namespace, runId }, options),
    );
  }

  /** Closes the client's own connection; one that was passed in stays open. */
  close(): void {
    if (this.#ownsConnection) this.#connection.close();
  }

  #handle<Output>(
    run: { readonly runId: string; readonly workflowId: string; readonly created: boolean },
    workflowType: string | undefined,
  ) {
    return new RunHandle<Output>(run, workflowType, this.context);
  }
}

/**
 * A start has one argument after the workflow, the options, or two: input and options.
 *
 * @throws {TypeError} naming the option that is wrong
 */
function split<Options extends StartOptions>(
  kind: 'start' | 'execute',
  given: readonly [options: Options] | readonly [input: unknown, options: Options],
) {
  const [input, options] = given.length === 1 ? [undefined, given[0]] : given;
  checkStartOptions(kind, options);
  return { input, options };
}

/** A start is repeated for as long as any other call, and no longer than the result is waited for. */
function startRetries(deadline: ResultDeadline | undefined): RetryUntilAnsweredOptions {
  if (deadline === undefined) return {};
  return { giveUpAfterMs: Math.min(DEFAULT_GIVE_UP_MS, deadline.remainingMs), signal: deadline.signal };
}

function refusal(error: unknown, { workflowType = '', input }: StartRequest): unknown {
  return inputRefusal(error, inputOf(workflowType), input?.data?.byteLength ?? 0);
}
