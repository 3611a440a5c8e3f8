import { AsyncResource } from 'node:async_hooks';
import { Client } from '../../client/client.js';
import { contextOf, RunHandle } from '../../client/run-handle.js';
import type { InputAnd, StartOptions } from '../../client/start-options.js';
import type { StepContext } from '../../context.js';
import { type Duration, durationMs } from '../../duration.js';
import { refuseUnknownKeys } from '../../options.js';
import { Connection } from '../../rpc/connection.js';
import { checkId, shown } from '../../text.js';
import { Worker } from '../../worker/worker.js';
import type { WorkerOptions } from '../../worker/worker-options.js';
import { checkWorkflow, type Workflow, workflow } from '../../workflow.js';
import { Bodies } from '../bodies/bodies.js';
import type { BodyCall } from '../bodies/body-call.js';
import { type Observation, observedWorkflow } from '../bodies/observed-workflow.js';
import type { Stub, StubBody, StubScope } from '../bodies/stub.js';
import { CallCount, countingCalls } from '../connection/calls.js';
import { observingWorker } from '../connection/worker-calls.js';
import { crashEverywhere } from '../crash/crash-everywhere.js';
import type { CrashHost } from '../crash/crash-host.js';
import type { CrashOptions } from '../crash/crash-options.js';
import type { CrashReport } from '../crash/crash-report.js';
import { type HistoryStep, readHistory } from '../history/history.js';
import { TimeSkipper } from '../time/time-skipper.js';
import { isWaiting } from '../time/until-waiting.js';
import type { TestEnvironmentOptions, TestInput, TestStartOptions, TestWorkerOptions } from './options.js';
import type { RunningParts } from './parts.js';
import { Serving } from './serving.js';

// biome-ignore lint/suspicious/noExplicitAny: with input and output of any kind.
type AnyWorkflow = Workflow<any, any>;

/** A whole Perdure for tests: server, reaper, database, workers and a client, with a clock of its own. Made by {@link createTestEnvironment}. */
export class TestEnvironment {
  /** A client of the environment. While it waits for a run, time may skip. */
  readonly client: Client;
  /** Where runs are put unless told otherwise. */
  readonly taskQueue: string;
  readonly #parts: RunningParts;
  readonly #options: TestEnvironmentOptions;
  readonly #connection: Connection;
  readonly #bodies = new Bodies();
  readonly #handlers = new Map<string, Workflow['handler']>();
  readonly #serving: Serving;
  readonly #calls = new CallCount();
  readonly #skipper: TimeSkipper;
  /** A worker that is started while a body is at work must not take itself for a part of that body. */
  readonly #outside = new AsyncResource('TestEnvironment');
  #closed: Promise<void> | undefined;

  /** Made by {@link createTestEnvironment}. */
  constructor(parts: RunningParts, options: TestEnvironmentOptions) {
    this.#parts = parts;
    this.#options = options;
    this.taskQueue = options.taskQueue ?? 'test';
    this.#connection = new Connection({ address: parts.address });
    this.#skipper = new TimeSkipper({
      time: parts.time,
      calls: this.#calls,
      bodies: this.#bodies,
      isAutomatic: options.timeSkips !== 'manual',
      onUnserved: (runs) => this.#serving.onUnserved(runs),
    });
    this.#serving = new Serving((workerOptions) => this.#startWorker(workerOptions));
    for (const one of options.workflows ?? []) this.#serving.know(one as Workflow);
    this.client = this.#clientOf('default');
  }

  /** `host:port` of the server, for clients and workers of your own. */
  get address(): string {
    return this.#parts.address;
  }

  /** Connection string of the environment's database, for looking. */
  get databaseUrl(): string {
    return this.#parts.databaseUrl;
  }

  /** Executions of bodies so far, of real ones and stubs, in the order of their beginning. @param step only those of this name */
  calls(step?: string): readonly BodyCall[] {
    return this.#bodies.calls.filter((call) => step === undefined || call.step === step);
  }

  /**
   * Starts a run and executes it.
   *
   * @returns once the start is committed; see `client.start`
   */
  async start<Input, Output>(
    definition: Workflow<Input, Output>,
    ...[input, options]: TestInput<Input>
  ): Promise<RunHandle<Output>> {
    const started = await this.#ready(definition as AnyWorkflow, options);
    return this.client.start(definition, ...([input, started] as unknown as InputAnd<StartOptions, Input>));
  }

  /**
   * Starts a run, executes it, and waits for its result; time skips.
   *
   * @returns what the workflow returned
   * @throws as `client.execute`
   */
  async run<Input, Output>(
    definition: Workflow<Input, Output>,
    ...[input, options]: TestInput<Input>
  ): Promise<Output> {
    const started = await this.#ready(definition as AnyWorkflow, options);
    return this.client.execute(definition, ...([input, started] as unknown as InputAnd<StartOptions, Input>));
  }

  /**
   * Starts a worker. `run` and `start` do without: it is for options of a worker, or when several are at work.
   *
   * @returns once it takes runs; {@link close} shuts it down
   * @throws {TypeError} naming the option that is wrong
   */
  async worker(options: TestWorkerOptions): Promise<Worker> {
    return this.#serving.add({ taskQueue: this.taskQueue, ...options });
  }

  /**
   * Replaces the body of the steps of a name, from now on, in all workflows, in one, or in one run.
   *
   * @param step the name that the code gives to the step
   * @param body is told what the body would be told; may call the real one
   */
  stub(step: string, body: StubBody, scope?: StubScope): Stub;
  /** Replaces the code of a workflow or an activity, a child for example: a run of one step, on whichever task queue it is started. */
  stub<Input, Output>(
    definition: Workflow<Input, Output>,
    body: (input: Input, step: StepContext) => Output | PromiseLike<Output>,
  ): Stub;
  stub(what: string | AnyWorkflow, body: (...args: never[]) => unknown, scope: StubScope = {}): Stub {
    if (typeof body !== 'function') throw new TypeError(`A stub needs a function; got ${shown(body)}.`);
    if (typeof what === 'string') {
      checkId("A step's name", what);
      refuseUnknownKeys('A stub', scope, ['workflow', 'run']);
      return this.#bodies.stub(what, body as StubBody, scope);
    }
    checkWorkflow('The first argument', what);
    const { name } = what;
    const before = { known: this.#serving.find(name), handler: this.#handlers.get(name) };
    const replacement = workflow(name, (ctx, input) =>
      ctx.step(name, (step) => (body as (input: unknown, step: StepContext) => unknown)(input, step)),
    ) as Workflow;
    if (before.known === undefined) this.#serving.know(replacement);
    this.#handlers.set(name, replacement.handler);
    const stub = this.#bodies.stub(name, (_, { original }) => original(), { workflow: name });
    return {
      calls: stub.calls,
      get effects() {
        return stub.effects;
      },
      restore: () => {
        stub.restore();
        if (before.known === undefined) this.#serving.forget(name);
        if (before.handler === undefined) this.#handlers.delete(name);
        else this.#handlers.set(name, before.handler);
      },
    };
  }

  /** The time of the environment's database, which `ctx.now()` and all timers go by. */
  now(): Promise<Date> {
    return this.#parts.time.now();
  }

  /**
   * Lets time pass, from one due time to the next; each time everything that falls due is carried out before time passes on.
   *
   * @param options `duringBodies`: time passes although bodies are at work, for example for one that hangs until its timeout;
   *   otherwise it waits for them, for up to 20 s
   * @returns when everything waits again
   */
  async advance(duration: Duration, options: { readonly duringBodies?: boolean } = {}): Promise<void> {
    const ms = durationMs(duration, 'The duration of advance');
    refuseUnknownKeys('An advance', options, ['duringBodies']);
    await this.#skipper.advance(ms, `advance(${shown(duration)})`, options.duringBodies ?? false);
  }

  /**
   * Waits until a run waits; time skips as long as it does not.
   *
   * @param name for a wait of this name: of a sleep, a signal, an event, a promise or a child; default: until it is suspended
   * @throws {Error} when the run has ended instead
   */
  async untilWaiting(handle: Pick<RunHandle, 'runId'>, name?: string): Promise<void> {
    await this.#untilWaiting(handle, name);
  }

  /**
   * Waits for any fact; time skips as long as it is not there.
   *
   * @param look called again and again; undefined, null or false: not yet. Must not change anything
   */
  until<T>(look: () => T | Promise<T>): Promise<NonNullable<T>> {
    return this.#until(look);
  }

  /** The steps of a run in the order of its code, each with its latest attempt. */
  history(handle: Pick<RunHandle, 'runId'>): Promise<readonly HistoryStep[]> {
    return readHistory(this.#contextOf(handle), handle.runId);
  }

  /** Stops everything and drops the database. Calling it again waits for the same end. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Executes a workflow once without a crash, and then once for each crash point: before and after each write of its workers the worker is
   * dropped, and another one continues. Result, state, effects and what the probe finds must be the same each time.
   *
   * @returns how many crash points there were
   * @throws {AssertionError} naming the crash points and what was different
   */
  async crashEverywhere<Input, Output>(
    definition: Workflow<Input, Output>,
    ...[input, options]: undefined extends Input
      ? readonly [input?: Input, options?: CrashOptions<Output>]
      : readonly [input: Input, options?: CrashOptions<Output>]
  ): Promise<CrashReport> {
    checkWorkflow('The first argument', definition);
    const host: CrashHost = {
      taskQueue: this.taskQueue,
      bodies: this.#bodies,
      time: this.#parts.time,
      connection: this.#connection,
      clientOf: (namespace) => this.#clientOf(namespace),
      startWorker: (workerOptions, seedOf) => this.#startWorker(workerOptions, seedOf),
      known: () => this.#serving.known,
      serveNamespace: (namespace, serve) => this.#serving.serveNamespace(namespace, serve),
      untilWaiting: (handle, name, signal) => this.#untilWaiting(handle, name, signal),
      until: (look, signal) => this.#until(look, signal),
      advance: (duration) => this.advance(duration),
    };
    return crashEverywhere(host, definition as AnyWorkflow, input, (options ?? {}) as CrashOptions<unknown>);
  }

  async #ready(definition: AnyWorkflow, options: TestStartOptions = {}): Promise<StartOptions> {
    checkWorkflow('The first argument', definition);
    const started = { taskQueue: this.taskQueue, ...options };
    this.#serving.know(definition);
    await this.#serving.serve('default', started.taskQueue, definition.name);
    return started;
  }

  async #untilWaiting(handle: Pick<RunHandle, 'runId'>, name?: string, signal?: AbortSignal): Promise<void> {
    const context = this.#contextOf(handle);
    await this.#skipper.until(() => isWaiting(context, handle.runId, name), signal);
  }

  #until<T>(look: () => T | Promise<T>, signal?: AbortSignal): Promise<NonNullable<T>> {
    return this.#skipper.until(async () => {
      const found = await look();
      return found === undefined || found === null || found === false ? undefined : (found as NonNullable<T>);
    }, signal);
  }

  #clientOf(namespace: string): Client {
    const { codec } = this.#options;
    return new Client({
      connection: countingCalls(this.#connection, this.#calls, () => this.#skipper.changed()),
      namespace,
      ...(codec === undefined ? {} : { codec }),
    });
  }

  #contextOf(handle: Pick<RunHandle, 'runId'>) {
    return contextOf(handle instanceof RunHandle ? handle : this.client.handle(handle.runId));
  }

  async #startWorker(options: WorkerOptions, seedOf?: Observation['seedOf']): Promise<Worker> {
    const { codec } = this.#options;
    const observation = { bodies: this.#bodies, handlers: this.#handlers, ...(seedOf === undefined ? {} : { seedOf }) };
    const worker = new Worker({
      namespace: 'default',
      logger: this.#parts.log,
      handleSignals: false,
      shutdownGrace: 0,
      ...(codec === undefined ? {} : { codec }),
      ...options,
      connection: observingWorker(options.connection ?? this.#connection, () => this.#skipper.changed()),
      workflows: options.workflows.map((one) => observedWorkflow(one as Workflow, observation)),
    });
    await this.#outside.runInAsyncScope(() => worker.start());
    return worker;
  }

  async #close(): Promise<void> {
    this.#skipper.stop();
    await this.#serving.stop();
    this.#connection.close();
    await this.#parts.stop();
  }
}
