import { create } from '@bufbuild/protobuf';
import { AdminService, type ExecuteWorkflowResponse, WorkflowRunSchema, WorkflowService } from '@perdure/proto';
import type { Logger } from 'pino';
import type { Codec } from '../codec/codec.js';
import { devalueCodec } from '../codec/devalue-codec.js';
import { refuseUnknownKeys } from '../options.js';
import { Connection } from '../rpc/connection.js';
import { RpcError } from '../rpc/rpc-error.js';
import { durationMessage } from '../rpc/time.js';
import type { Workflow } from '../workflow.js';
import { awaitResult, type ClientContext, outputOf, type ResultOptions, ResultPatience } from './await-result.js';
import { type ListOptions, listRequest } from './list-options.js';
import { OutageNotice } from './outage-notice.js';
import { inputRefusal, PayloadLimit } from './payload-limit.js';
import { RunHandle } from './run-handle.js';
import { type RunSummary, runSummary } from './run-summary.js';
import { checkStartOptions, type InputAnd, type StartItem, type StartOptions } from './start-options.js';
import { inBatches, inputOf, nameOf, type StartRequest, startError, startRequest } from './start-request.js';
import { DEFAULT_PATIENCE_MS, type UntilAnsweredOptions, untilAnswered } from './until-answered.js';

export interface ClientOptions {
  /** `host:port`, several with commas between; default: environment variable PERDURE_ADDRESS, else `127.0.0.1:7300`. */
  readonly address?: string;
  /** A connection to share; default: one of its own, to `address`. */
  readonly connection?: Connection;
  /** Default: environment variable PERDURE_NAMESPACE, else `default`. */
  readonly namespace?: string;
  /** Default {@link devalueCodec}. Clients and workers of a workflow must use the same. */
  readonly codec?: Codec;
  /** Told once, by `warn`, when no server has answered for a second; default: one line on stderr. */
  readonly logger?: Pick<Logger, 'warn'>;
}

const KNOWN: readonly (keyof ClientOptions)[] = ['address', 'connection', 'namespace', 'codec', 'logger'];

/**
 * For the first call of an execute, in ms. Until it is answered nobody here knows whether the run was started, and an outage is
 * waited for as long as for a start; afterwards as long as for a result.
 */
const EXECUTE_WAIT_MS = 2_000;

/**
 * Starts runs and looks at them. Calls are repeated while no server can be reached, for 30 s; that is harmless, since
 * each start bears an id. After a second without any server, one line says where it looks.
 */
export class Client {
  readonly namespace: string;
  readonly #connection: Connection;
  readonly #ownsConnection: boolean;
  readonly #context: ClientContext;

  /** @throws {TypeError} naming the option that is wrong */
  constructor(options: ClientOptions = {}) {
    refuseUnknownKeys('A client', options, KNOWN);
    this.#ownsConnection = options.connection === undefined;
    this.#connection =
      options.connection ?? new Connection(options.address === undefined ? {} : { address: options.address });
    this.namespace = options.namespace ?? (process.env.PERDURE_NAMESPACE || 'default');
    const outage = new OutageNotice(options.logger);
    this.#context = {
      service: this.#connection.service(WorkflowService),
      namespace: this.namespace,
      codec: options.codec ?? devalueCodec,
      outage,
      limit: new PayloadLimit(this.#connection.service(AdminService), outage),
    };
  }

  /**
   * Starts a run.
   *
   * @param workflow the definition, or its name when its code is elsewhere
   * @param inputAndOptions a workflow without input needs only options
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
    const request = await startRequest(this.#context, workflow, input, options);
    return this.#handle<Output>(await this.#start(request), request.workflowType);
  }

  /**
   * Starts a run and waits for its result; see {@link start} and {@link RunHandle.result}. With a `timeout` it ends by then
   * in every state: with AwaitTimeoutError when the run was started, with an RpcError when no server has answered.
   */
  async execute<Input, Output>(
    workflow: Workflow<Input, Output> | string,
    ...inputAndOptions: InputAnd<StartOptions & ResultOptions, Input>
  ): Promise<Output> {
    const { input, options } = split('execute', inputAndOptions);
    const patience = new ResultPatience(options);
    patience.signal?.throwIfAborted();
    const request = await startRequest(this.#context, workflow, input, options, startPatience(patience));
    const executed = await this.#executeOnce(request, patience);
    if (executed?.ended) return outputOf(executed, request.workflowType, this.#context.codec) as Output;
    const run = executed ?? (await this.#start(request, patience));
    return (await awaitResult(this.#context, run, request.workflowType, patience)) as Output;
  }

  async #start(request: StartRequest, patience?: ResultPatience) {
    try {
      return await untilAnswered(
        this.#context.outage,
        (options) => this.#context.service.startWorkflow(request, options),
        startPatience(patience),
      );
    } catch (error) {
      throw refusal(error, request);
    }
  }

  /** @returns undefined when no server answered; the start is repeated then, with the same request id */
  async #executeOnce(request: StartRequest, patience: ResultPatience): Promise<ExecuteWorkflowResponse | undefined> {
    const { waitMs, options } = patience.nextCall(EXECUTE_WAIT_MS);
    try {
      return await this.#context.service.executeWorkflow({ start: request, wait: durationMessage(waitMs) }, options);
    } catch (error) {
      patience.signal?.throwIfAborted();
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
        return startRequest(this.#context, workflow, input, options);
      }),
    );
    const results: (RunHandle<Output> | RpcError)[] = [];
    for (const runs of inBatches(requests)) {
      const { outcomes } = await untilAnswered(this.#context.outage, (options) =>
        this.#context.service.startWorkflows({ namespace: this.namespace, runs }, options),
      );
      for (const { result } of outcomes) {
        if (result.case === 'started') results.push(this.#handle<Output>(result.value, nameOf(workflow)));
        else results.push(startError(result.value));
      }
    }
    return results;
  }

  /** A handle for a run that is known by its run id. */
  handle<Output = unknown>(runId: string): RunHandle<Output> {
    return this.#handle<Output>({ runId, workflowId: '', created: false }, undefined);
  }

  /**
   * @param run a run id, or a workflow id: its open run, else its newest
   * @throws {RpcError} NOT_FOUND
   */
  async get(run: { readonly runId: string } | { readonly workflowId: string }): Promise<RunSummary> {
    const answer = await untilAnswered(this.#context.outage, (options) =>
      this.#context.service.getRun({ namespace: this.namespace, ...run }, options),
    );
    return runSummary(answer.run ?? create(WorkflowRunSchema), this.#context.codec);
  }

  /**
   * Runs, newest first, without inputs and outputs; pages are fetched as the loop gets there.
   *
   * @throws {TypeError} naming the option that is wrong
   */
  async *list(options: ListOptions = {}): AsyncGenerator<RunSummary> {
    const request = listRequest(this.namespace, options);
    let pageToken = '';
    do {
      const answer = await untilAnswered(this.#context.outage, (callOptions) =>
        this.#context.service.listRuns({ ...request, pageToken }, callOptions),
      );
      for (const run of answer.runs) yield runSummary(run, this.#context.codec);
      pageToken = answer.nextPageToken;
    } while (pageToken !== '');
  }

  /** Asks a run to end; see {@link RunHandle.cancel}. */
  async cancel(run: { readonly runId: string } | { readonly workflowId: string }, reason = ''): Promise<void> {
    await untilAnswered(this.#context.outage, (options) =>
      this.#context.service.cancelRun({ namespace: this.namespace, ...run, reason }, options),
    );
  }

  /** Ends a run at once; see {@link RunHandle.terminate}. */
  async terminate(run: { readonly runId: string } | { readonly workflowId: string }, reason = ''): Promise<void> {
    await untilAnswered(this.#context.outage, (options) =>
      this.#context.service.terminateRun({ namespace: this.namespace, ...run, reason }, options),
    );
  }

  /** Deletes a run that has ended - of a workflow id, the newest; see {@link RunHandle.delete}. */
  async delete(run: { readonly runId: string } | { readonly workflowId: string }): Promise<void> {
    const { runId } = 'runId' in run ? run : await this.get(run);
    await untilAnswered(this.#context.outage, (options) =>
      this.#context.service.deleteRun({ namespace: this.namespace, runId }, options),
    );
  }

  /** Ends the connection, unless it was given. */
  close(): void {
    if (this.#ownsConnection) this.#connection.close();
  }

  #handle<Output>(
    run: { readonly runId: string; readonly workflowId: string; readonly created: boolean },
    workflowType: string | undefined,
  ) {
    return new RunHandle<Output>(run, workflowType, this.#context);
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

/** A start is waited for as long as for any other call, and no longer than for the result. */
function startPatience(patience: ResultPatience | undefined): UntilAnsweredOptions {
  if (patience === undefined) return {};
  return { patienceMs: Math.min(DEFAULT_PATIENCE_MS, patience.remainingMs), signal: patience.signal };
}

function refusal(error: unknown, { workflowType = '', input }: StartRequest): unknown {
  return inputRefusal(error, inputOf(workflowType), input?.data?.byteLength ?? 0);
}
