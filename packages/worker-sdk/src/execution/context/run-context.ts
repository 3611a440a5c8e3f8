import { StepKind } from '@perdure/proto';
import type { Logger } from 'pino';
import type { ChildOptions, ChildRun } from '../../child.js';
import type {
  ChildWorkflow,
  ContinueOptions,
  DurablePromise,
  EventWaitOptions,
  HandleOptions,
  StepContext,
  StepOptions,
  UpdateHandler,
  WaitOptions,
  WorkflowContext,
} from '../../context.js';
import { type Duration, durationMs } from '../../duration.js';
import { type EventDefinition, eventOf } from '../../event.js';
import { refuseUnknownKeys } from '../../options.js';
import { type Signal, signalOf } from '../../signal.js';
import { type Update, updateOf } from '../../update.js';
import { currentScope, currentStep, runInScope } from '../body/scope.js';
import type { StepRef } from '../order/program.js';
import { callAwaited } from '../step/awaited-call.js';
import { callSleep } from '../step/sleep-call.js';
import { callStep } from '../step/step-call.js';
import type { Settle, SleepCall } from '../step/step-host.js';
import { checkStepName, resolveStepOptions } from '../step/step-options.js';
import { checkUntil, refuseInsideBody, settledOr } from './checks.js';
import { Children } from './children.js';
import { Compensations, type SagaScope } from './compensations.js';
import type { ContextHost } from './context-host.js';
import { type Continuable, type Continuation, continuationOf } from './continuation.js';
import { eventWait, publishEvent } from './events.js';
import { mapItems } from './map-items.js';
import { promiseIdOf, promiseOptions, promiseWait } from './promises.js';
import { SeededRandom } from './random.js';
import { followedInSaga, inSaga } from './saga-steps.js';
import { type AwaitedStep, type RunTarget, sendSignal, signalWait } from './signals.js';
import { settledBy, type Track } from './tracked-promise.js';

/**
 * The `ctx` of one execution. Its methods may be destructured or replaced, so each is a property of its own.
 *
 * A class, because an object literal with accessors gets a hidden class of its own: V8 keeps those until a full collection,
 * and with them everything that the accessors close over, which would be the whole run.
 */
export class RunContext implements Continuable {
  readonly run: WorkflowContext['run'];
  readonly #host: ContextHost;
  readonly #unawaited = new Set<string>();
  #children: Children | undefined;
  #compensations: Compensations | undefined;
  /** Promises of the code whose beginning is being recorded. */
  #unrecorded: Set<Promise<void>> | undefined;
  #random: SeededRandom | undefined;
  #log: WorkflowContext['log'] | undefined;

  constructor(host: ContextHost) {
    this.#host = host;
    this.run = host.facts.run;
  }

  /** Steps and timers whose promise the code has not awaited. */
  get unawaited(): readonly string[] {
    return [...this.#unawaited];
  }

  step = <T>(name: string, body: (step: StepContext) => T | PromiseLike<T>, options?: StepOptions) =>
    settledBy((settle, track) => {
      checkStepName(name);
      if (typeof body !== 'function') throw new TypeError(`Step '${name}' needs a function; got ${typeof body}.`);
      const resolved = resolveStepOptions(name, options);
      refuseInsideBody('ctx.step', name);
      const followed = inSaga(name, settle);
      const step = this.#host.open(name, StepKind.FUNCTION);
      if (step === undefined) return;
      track(step.stepId, this.#unawaited);
      callStep(this.#host, { step, body: this.#afterPromises(body), options: resolved, settle: followed });
    }) as Promise<Awaited<T>>;

  sleep = (...args: [Duration] | [string, Duration]) => {
    const [name, duration] = args.length === 1 ? ['sleep', args[0]] : args;
    return this.#sleep(name, () => ({ durationMs: durationMs(duration, 'The duration of ctx.sleep') }));
  };

  sleepUntil = (...args: [Date] | [string, Date]) => {
    const [name, until] = args.length === 1 ? ['sleep', args[0]] : args;
    return this.#sleep(name, () => {
      checkUntil(until, this.#host.now);
      return { until };
    });
  };

  waitForEvent = <Received>(given: EventDefinition<never, Received> | string, options?: EventWaitOptions) => {
    const wait = () => eventWait(given as EventDefinition | string, options);
    return this.#await(wait) as Promise<Received>;
  };

  publish = (
    given: EventDefinition<never, unknown> | string,
    payload?: unknown,
    options?: { readonly key?: string },
  ) => {
    const { name } = eventOf(given as EventDefinition | string);
    return this.step(name, (step) =>
      publishEvent(this.#host, given as EventDefinition | string, payload, options, step.idempotencyKey),
    );
  };

  promise = <Value>(name: string, options?: WaitOptions): DurablePromise<Value> => {
    const { timeoutMs } = promiseOptions(name, options);
    refuseInsideBody('ctx.promise', name);
    const step = this.#host.open(name, StepKind.PROMISE);
    const id = step === undefined ? '' : promiseIdOf(this.run.runId, step.stepId);
    const result = settledBy<Value>((settle, track) => {
      if (step !== undefined) this.#begin(step, promiseWait(id, name, timeoutMs), settle, track, this.#toBeRecorded());
    });
    return Object.freeze({ id, result: () => result });
  };

  waitForSignal = <Received>(given: Signal<never, Received> | string, options?: WaitOptions) => {
    const wait = () => signalWait(given as Signal | string, options);
    return this.#await(wait) as Promise<Received>;
  };

  async *signals<Received>(given: Signal<never, Received> | string): AsyncGenerator<Received, never> {
    for (;;) yield await this.waitForSignal(given);
  }

  signalRun = (run: RunTarget, given: Signal<never, unknown> | string, payload?: unknown) => {
    const { name } = signalOf(given as Signal | string);
    return this.step(name, (step) =>
      sendSignal(this.#host, run, given as Signal | string, payload, step.idempotencyKey),
    );
  };

  handle = <Received, Output>(
    given: Update<never, Output, Received> | string,
    handler: UpdateHandler<Received, Output>,
    options: HandleOptions<Received> = {},
  ): void => {
    const update = updateOf(given as Update | string);
    const { name } = update;
    if (typeof handler !== 'function') throw new TypeError(`Update '${name}' needs a function; got ${typeof handler}.`);
    refuseUnknownKeys(`The handler of update '${name}'`, options, ['validate']);
    refuseInsideBody('ctx.handle', name);
    const handle = handler as UpdateHandler<unknown, unknown>;
    const validate = options.validate as ((input: unknown) => void) | undefined;
    this.#host.updates.handle({ update, handle, validate, scope: currentScope() });
  };

  /** Set by whoever executes the code. */
  onContinue: (continuation: Continuation) => void = () => undefined;

  continueAsNew = (input?: unknown, options: ContinueOptions = {}): Promise<never> =>
    settledOr(() => {
      refuseInsideBody('ctx.continueAsNew', '');
      this.onContinue(continuationOf(this.#host, input, options));
      return new Promise<never>(() => undefined);
    }) as Promise<never>;

  setState = (value: unknown): void => {
    refuseInsideBody('ctx.setState', '');
    this.#host.state.set(value);
  };
  startChild = <Input, Output>(
    workflow: ChildWorkflow<Input, Output> | string,
    input?: unknown,
    options: ChildOptions = {},
  ): ChildRun<Output> => {
    refuseInsideBody('ctx.startChild', nameOf(workflow));
    return this.#started().start(workflow, input, options) as ChildRun<Output>;
  };

  child = <Input, Output>(
    workflow: ChildWorkflow<Input, Output> | string,
    input?: unknown,
    options: ChildOptions = {},
  ): Promise<Output> =>
    settledOr(() => {
      const name = nameOf(workflow);
      refuseInsideBody('ctx.child', name);
      return followedInSaga(name, () => this.#started().start(workflow, input, options, this.#unawaited).result());
    }) as Promise<Output>;

  call = this.child;

  map = mapItems;

  onCompensate: WorkflowContext['onCompensate'] = (...args) => this.#sagas().onCompensate(...args);

  compensate = () => this.#sagas().compensate();

  saga: WorkflowContext['saga'] = (...args) => this.#sagas().saga(...args);

  uncancellable = <T>(work: () => Promise<T>) => runInScope({ ...currentScope(), uncancellable: true }, work);

  now = () => new Date(this.#host.now);

  random = () => this.#seeded().next();

  uuid = () => this.#seeded().uuid();

  heartbeat = (detail?: unknown) => currentStep('ctx.heartbeat').heartbeat(detail);

  lastHeartbeat = <T>() => currentStep('ctx.lastHeartbeat').lastHeartbeat<T>();

  get signal(): AbortSignal {
    return currentScope().step?.signal ?? this.#host.cancellation.signal;
  }

  get idempotencyKey(): string {
    return currentStep('ctx.idempotencyKey').idempotencyKey;
  }

  get log(): WorkflowContext['log'] {
    this.#log ??= {
      trace: this.#unlessReplaying('trace'),
      debug: this.#unlessReplaying('debug'),
      info: this.#unlessReplaying('info'),
      warn: this.#unlessReplaying('warn'),
      error: this.#unlessReplaying('error'),
    };
    return this.#log;
  }

  /** Undefined: the code has none. */
  get compensations(): Compensations | undefined {
    return this.#compensations;
  }

  #sagas(): SagaScope {
    this.#compensations ??= new Compensations(this.#host);
    return this.#compensations.root;
  }

  #started(): Children {
    this.#children ??= new Children(this.#host, this.step);
    return this.#children;
  }

  #seeded(): SeededRandom {
    this.#random ??= new SeededRandom(this.#host.facts.run.runId);
    return this.#random;
  }

  #unlessReplaying(level: 'trace' | 'debug' | 'info' | 'warn' | 'error') {
    return (...args: Parameters<Logger['info']>) => {
      const { replaying, unrecorded, facts } = this.#host;
      if (!replaying) unrecorded.line(() => facts.log[level](...args));
    };
  }

  /** A step that waits for something from outside. */
  #await(waitOf: () => AwaitedStep): Promise<unknown> {
    return settledBy((settle, track) => {
      const wait = waitOf();
      checkStepName(wait.name);
      refuseInsideBody('The wait', wait.name);
      const step = this.#host.open(wait.name, wait.kind);
      if (step !== undefined) this.#begin(step, wait, settle, track);
    });
  }

  #begin(step: StepRef, { received, ...wait }: AwaitedStep, settle: Settle, track: Track, onBegun?: () => void): void {
    track(step.stepId, this.#unawaited);
    const resolve = (value: unknown) => void received(value).then(settle.resolve, settle.reject);
    const told = { ...settle, resolve, skip: () => settle.resolve(undefined) };
    const call = { ...wait, step, settle: told, ...(onBegun === undefined ? {} : { onBegun }) };
    void this.#host.faults.guard(() => callAwaited(this.#host, call));
  }

  /** @returns to be called when a promise has been recorded */
  #toBeRecorded(): () => void {
    let onRecorded: () => void = () => undefined;
    const recorded = new Promise<void>((resolve) => {
      onRecorded = resolve;
    });
    this.#unrecorded ??= new Set();
    this.#unrecorded.add(recorded);
    return () => {
      this.#unrecorded?.delete(recorded);
      onRecorded();
    };
  }

  /** A body may give the id of a promise away, so it begins when all promises are recorded: anyone who gets an id can settle it. */
  #afterPromises<T>(body: (step: StepContext) => T): (step: StepContext) => T | Promise<T> {
    if (this.#unrecorded === undefined || this.#unrecorded.size === 0) return body;
    const recorded = Promise.all(this.#unrecorded);
    return (step) => recorded.then(() => body(step));
  }

  #sleep(name: string, whenOf: () => SleepCall['when']): Promise<void> {
    return settledBy((settle, track) => {
      checkStepName(name);
      const when = whenOf();
      refuseInsideBody('ctx.sleep', name);
      const step = this.#host.open(name, StepKind.SLEEP);
      if (step === undefined) return;
      track(step.stepId, this.#unawaited);
      void this.#host.faults.guard(() => callSleep(this.#host, { step, when, settle }));
    }) as Promise<void>;
  }
}

const nameOf = (workflow: ChildWorkflow | string) => (typeof workflow === 'string' ? workflow : String(workflow?.name));
