import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  ErrorReason,
  type ExecuteWorkflowResponse,
  RunStatus as RunStatusNumber,
  type StartWorkflowRequestSchema,
  type StartWorkflowsResponse_StartError,
  WorkflowIdReusePolicy,
  WorkflowRunSchema,
  WorkflowService,
} from '@perdure/proto';
import { v7 as newUuid } from 'uuid';
import type { Codec } from '../codec/codec.js';
import { devalueCodec } from '../codec/devalue-codec.js';
import { encodeValue } from '../codec/payload.js';
import { type Duration, durationMs } from '../duration.js';
import { InvalidInputError } from '../errors/errors.js';
import { Connection } from '../rpc/connection.js';
import { knownReason, RpcError, type StatusName } from '../rpc/rpc-error.js';
import { durationMessage, timestampMessage } from '../rpc/time.js';
import { checkInput, type Workflow } from '../workflow.js';
import { awaitResult, type ClientContext, outputOf, type ResultOptions, ResultPatience } from './await-result.js';
import { RunHandle } from './run-handle.js';
import { type RunStatus, type RunSummary, runSummary } from './run-summary.js';
import { untilAnswered } from './until-answered.js';

export interface ClientOptions {
  /** `host:port`, several with commas between; default: environment variable PERDURE_ADDRESS, else `127.0.0.1:7300`. */
  readonly address?: string;
  /** A connection to share; default: one of its own, to `address`. */
  readonly connection?: Connection;
  /** Default: environment variable PERDURE_NAMESPACE, else `default`. */
  readonly namespace?: string;
  /** Default {@link devalueCodec}. Clients and workers of a workflow must use the same. */
  readonly codec?: Codec;
}

/** How a run is started. */
export interface StartOptions {
  /** The queue whose workers execute it; 1 to 255 bytes. */
  readonly taskQueue: string;
  /** Your own id, unique among open runs: a second start with it returns the open run. Default: the run id. */
  readonly workflowId?: string;
  /** What to do when the id was used before and that run has ended; default `'allow'`. */
  readonly reusePolicy?: 'allow' | 'allow-if-failed' | 'reject' | 'terminate-existing';
  /** Equal ids are one start, whenever they come. Default: one for this call, so that its own repeats start one run. */
  readonly requestId?: string;
  /** −100 to 100; higher is claimed first; default 0. */
  readonly priority?: number;
  /** Build that the run is meant for. */
  readonly version?: string;
  /** Wait before the first claim; default none. */
  readonly startDelay?: Duration;
  /** Fails the run with RUN_TIMEOUT when it has not ended by then, retries and sleeps included; default never. */
  readonly runTimeout?: Duration;
  /** Fails the run with EXECUTION_TIMEOUT when one attempt takes longer, sleeps included; default never. */
  readonly executionTimeout?: Duration;
  /** Workers in a row that it may take down, without completing a step, before it FAILs; 1 to 1,000; default 10. */
  readonly maxLostLeases?: number;
}

/** Which runs; those given must all hold. */
export interface ListOptions {
  readonly status?: RunStatus | readonly RunStatus[];
  readonly workflowType?: string;
  readonly taskQueue?: string;
  readonly workflowId?: string;
  readonly version?: string;
  readonly createdAfter?: Date;
  readonly createdBefore?: Date;
  /** Runs fetched with one call, 1 to 1,000; default 100. */
  readonly pageSize?: number;
}

const REUSE_POLICIES = {
  allow: WorkflowIdReusePolicy.ALLOW,
  'allow-if-failed': WorkflowIdReusePolicy.ALLOW_IF_FAILED,
  reject: WorkflowIdReusePolicy.REJECT,
  'terminate-existing': WorkflowIdReusePolicy.TERMINATE_EXISTING,
} as const;
/**
 * For the first call of an execute, in ms. Until it is answered nobody here knows whether the run was started, and an outage is
 * borne as long as for a start; afterwards it is borne as long as for a result.
 */
const EXECUTE_WAIT_MS = 2_000;
const STARTS_PER_CALL = 500;
const BYTES_PER_CALL = 2 * 1024 * 1024;

/** The statuses of the reasons for which one start of many is refused. */
const START_STATUS = { WORKFLOW_ALREADY_EXISTS: 'ALREADY_EXISTS', NAMESPACE_NOT_FOUND: 'NOT_FOUND' } as const;

type StartRequest = MessageInitShape<typeof StartWorkflowRequestSchema>;

/**
 * Starts runs and looks at them. Calls are repeated while no server can be reached, for 30 s; that is harmless, since
 * each start bears an id.
 */
export class Client {
  readonly namespace: string;
  readonly #connection: Connection;
  readonly #ownsConnection: boolean;
  readonly #context: ClientContext;

  constructor(options: ClientOptions = {}) {
    this.#ownsConnection = options.connection === undefined;
    this.#connection =
      options.connection ?? new Connection(options.address === undefined ? {} : { address: options.address });
    this.namespace = options.namespace ?? (process.env.PERDURE_NAMESPACE || 'default');
    this.#context = {
      service: this.#connection.service(WorkflowService),
      namespace: this.namespace,
      codec: options.codec ?? devalueCodec,
    };
  }

  /**
   * Starts a run.
   *
   * @param workflow the definition, or its name when its code is elsewhere
   * @returns once the start is committed
   * @throws {InvalidInputError} when the input does not fit the workflow's schema
   * @throws {RpcError} ALREADY_EXISTS when the workflow id belongs to an open run with another input, and other refusals
   */
  async start<Input, Output>(
    workflow: Workflow<Input, Output> | string,
    input: Input,
    options: StartOptions,
  ): Promise<RunHandle<Output>> {
    const request = await this.#startRequest(workflow, input, options);
    const answer = await untilAnswered(() => this.#context.service.startWorkflow(request));
    return this.#handle<Output>(answer);
  }

  /** Starts a run and waits for its result; see {@link start} and {@link RunHandle.result}. */
  async execute<Input, Output>(
    workflow: Workflow<Input, Output> | string,
    input: Input,
    options: StartOptions & ResultOptions,
  ): Promise<Output> {
    const request = await this.#startRequest(workflow, input, options);
    const patience = new ResultPatience(options);
    const executed = await this.#executeOnce(request, patience);
    if (executed?.finished) return outputOf(executed, this.#context.codec) as Output;
    const run = executed ?? (await untilAnswered(() => this.#context.service.startWorkflow(request)));
    return (await awaitResult(this.#context, run, patience)) as Output;
  }

  /** @returns undefined when no server answered; the start is repeated then, with the same request id */
  async #executeOnce(request: StartRequest, patience: ResultPatience): Promise<ExecuteWorkflowResponse | undefined> {
    const { waitMs, options } = patience.nextCall(EXECUTE_WAIT_MS);
    try {
      return await this.#context.service.executeWorkflow({ start: request, wait: durationMessage(waitMs) }, options);
    } catch (error) {
      if (error instanceof RpcError && error.isTransient) return undefined;
      throw error;
    }
  }

  /**
   * Starts many runs, up to 500 with one call.
   *
   * @returns a handle, or the error of that start, for each input, in their order
   */
  async startMany<Input, Output>(
    workflow: Workflow<Input, Output> | string,
    starts: readonly { readonly input: Input; readonly options: StartOptions }[],
  ): Promise<(RunHandle<Output> | RpcError)[]> {
    const requests = await Promise.all(
      starts.map(({ input, options }) => this.#startRequest(workflow, input, options)),
    );
    const results: (RunHandle<Output> | RpcError)[] = [];
    for (const runs of inBatches(requests)) {
      const { outcomes } = await untilAnswered(() =>
        this.#context.service.startWorkflows({ namespace: this.namespace, runs }),
      );
      for (const { result } of outcomes) {
        if (result.case === 'started') results.push(this.#handle<Output>(result.value));
        else results.push(startError(result.value));
      }
    }
    return results;
  }

  /** A handle for a run that is known by its run id. */
  handle<Output = unknown>(runId: string): RunHandle<Output> {
    return this.#handle<Output>({ runId, workflowId: '', created: false });
  }

  /**
   * @param run a run id, or a workflow id: its open run, else its newest
   * @throws {RpcError} NOT_FOUND
   */
  async get(run: { readonly runId: string } | { readonly workflowId: string }): Promise<RunSummary> {
    const answer = await untilAnswered(() => this.#context.service.getRun({ namespace: this.namespace, ...run }));
    return runSummary(answer.run ?? create(WorkflowRunSchema), this.#context.codec);
  }

  /** Runs, newest first, without inputs and outputs; pages are fetched as the loop gets there. */
  async *list(options: ListOptions = {}): AsyncGenerator<RunSummary> {
    const statuses = options.status === undefined ? [] : [options.status].flat();
    let pageToken = '';
    do {
      const answer = await untilAnswered(() =>
        this.#context.service.listRuns({
          namespace: this.namespace,
          statuses: statuses.map((status) => RunStatusNumber[status as keyof typeof RunStatusNumber]),
          workflowType: options.workflowType ?? '',
          taskQueue: options.taskQueue ?? '',
          workflowId: options.workflowId ?? '',
          version: options.version ?? '',
          pageSize: options.pageSize ?? 100,
          pageToken,
          ...(options.createdAfter === undefined ? {} : { createdAfter: timestampMessage(options.createdAfter) }),
          ...(options.createdBefore === undefined ? {} : { createdBefore: timestampMessage(options.createdBefore) }),
        }),
      );
      for (const run of answer.runs) yield runSummary(run, this.#context.codec);
      pageToken = answer.nextPageToken;
    } while (pageToken !== '');
  }

  /** Asks a run to end; see {@link RunHandle.cancel}. */
  async cancel(run: { readonly runId: string } | { readonly workflowId: string }, reason = ''): Promise<void> {
    await untilAnswered(() => this.#context.service.cancelRun({ namespace: this.namespace, ...run, reason }));
  }

  /** Ends a run at once; see {@link RunHandle.terminate}. */
  async terminate(run: { readonly runId: string } | { readonly workflowId: string }, reason = ''): Promise<void> {
    await untilAnswered(() => this.#context.service.terminateRun({ namespace: this.namespace, ...run, reason }));
  }

  /** Ends the connection, unless it was given. */
  close(): void {
    if (this.#ownsConnection) this.#connection.close();
  }

  async #startRequest(
    workflow: Pick<Workflow, 'name' | 'options'> | string,
    input: unknown,
    options: StartOptions,
  ): Promise<StartRequest> {
    if (typeof workflow !== 'string') {
      const checked = await checkInput(workflow, input);
      if ('problem' in checked) {
        throw new InvalidInputError(`The input does not fit workflow '${workflow.name}': ${checked.problem}`);
      }
    }
    // The worker checks again, and gives the code what its own schema makes of the input.
    const payload = encodeValue(this.#context.codec, input);
    const duration = (key: 'startDelay' | 'runTimeout' | 'executionTimeout') => {
      const value = options[key];
      return value === undefined ? {} : { [key]: durationMessage(durationMs(value, key)) };
    };
    return {
      namespace: this.namespace,
      workflowType: typeof workflow === 'string' ? workflow : workflow.name,
      taskQueue: options.taskQueue,
      workflowId: options.workflowId ?? '',
      requestId: options.requestId ?? newUuid(),
      priority: options.priority ?? 0,
      version: options.version ?? '',
      reusePolicy: REUSE_POLICIES[options.reusePolicy ?? 'allow'],
      maxLostLeases: options.maxLostLeases ?? 0,
      ...(payload === undefined ? {} : { input: payload }),
      ...duration('startDelay'),
      ...duration('runTimeout'),
      ...duration('executionTimeout'),
    };
  }

  #handle<Output>(run: { readonly runId: string; readonly workflowId: string; readonly created: boolean }) {
    return new RunHandle<Output>(run, this.#context);
  }
}

/** As many starts as the server takes with one call, by number and by size. */
function inBatches(requests: readonly StartRequest[]): StartRequest[][] {
  const batches: StartRequest[][] = [];
  let batch: StartRequest[] = [];
  let bytes = 0;
  for (const request of requests) {
    const size = (request.input?.data?.byteLength ?? 0) + 1_000;
    if (batch.length >= STARTS_PER_CALL || (batch.length > 0 && bytes + size > BYTES_PER_CALL)) {
      batches.push(batch);
      batch = [];
      bytes = 0;
    }
    batch.push(request);
    bytes += size;
  }
  if (batch.length > 0) batches.push(batch);
  return batches;
}

function startError(value: StartWorkflowsResponse_StartError | undefined): RpcError {
  const reason = knownReason(ErrorReason[value?.reason ?? 0] ?? '');
  const status: StatusName = START_STATUS[reason as keyof typeof START_STATUS] ?? 'UNKNOWN';
  return new RpcError(status, value?.message ?? 'The server said nothing of this start.', {
    reason,
    metadata: value?.existingRunId ? { run_id: value.existingRunId } : {},
  });
}
