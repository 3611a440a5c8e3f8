import { StepKind } from '@perdure/proto';
import type { Logger } from 'pino';
import type { StepContext, StepOptions, WorkflowContext } from '../context.js';
import { type Duration, durationMs } from '../duration.js';
import { SeededRandom } from './random.js';
import type { RunExecution } from './run-execution.js';
import { currentScope, currentStep, runInScope } from './scope.js';
import { callSleep, type SleepCall } from './sleep-call.js';
import { callStep, type Settle } from './step-call.js';
import { checkStepName, resolveStepOptions } from './step-options.js';

/**
 * The `ctx` of one execution. Its functions may be taken out of it or replaced, so each is a property of its own.
 *
 * A class, because an object literal with accessors gets a hidden class of its own: V8 keeps those until a full collection,
 * and with them everything that the accessors close over, which would be the whole run.
 */
export class RunContext implements WorkflowContext {
  readonly run: WorkflowContext['run'];
  readonly #execution: RunExecution;
  #random: SeededRandom | undefined;
  #log: WorkflowContext['log'] | undefined;

  constructor(execution: RunExecution) {
    this.#execution = execution;
    this.run = execution.run;
  }

  step = <T>(name: string, body: (step: StepContext) => T | PromiseLike<T>, options?: StepOptions) =>
    settledBy((settle) => {
      checkStepName(name);
      if (typeof body !== 'function') throw new TypeError(`Step '${name}' needs a function; got ${typeof body}.`);
      const resolved = resolveStepOptions(name, options);
      refuseInsideBody('ctx.step', name);
      const step = this.#execution.open(name, StepKind.FUNCTION);
      if (step === undefined) return;
      callStep(this.#execution, { step, body, options: resolved, settle });
    }) as Promise<Awaited<T>>;

  sleep = (...args: [Duration] | [string, Duration]) => {
    const [name, duration] = args.length === 1 ? ['sleep', args[0]] : args;
    return settledOr(() => this.#sleep(name, { durationMs: durationMs(duration, 'The duration of ctx.sleep') }));
  };

  sleepUntil = (...args: [Date] | [string, Date]) => {
    const [name, until] = args.length === 1 ? ['sleep', args[0]] : args;
    return settledOr(() => {
      if (!(until instanceof Date) || Number.isNaN(until.getTime())) {
        throw new TypeError(`ctx.sleepUntil needs a valid Date; got ${String(until)}.`);
      }
      return this.#sleep(name, { until });
    });
  };

  uncancellable = <T>(work: () => Promise<T>) => runInScope({ ...currentScope(), uncancellable: true }, work);

  now = () => new Date(this.#execution.now);

  random = () => this.#seeded().next();

  uuid = () => this.#seeded().uuid();

  heartbeat = (detail?: unknown) => currentStep('ctx.heartbeat').heartbeat(detail);

  lastHeartbeat = <T>() => currentStep('ctx.lastHeartbeat').lastHeartbeat<T>();

  get signal(): AbortSignal {
    return currentScope().step?.signal ?? this.#execution.signal;
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

  #seeded(): SeededRandom {
    this.#random ??= new SeededRandom(this.#execution.run.runId);
    return this.#random;
  }

  #unlessReplaying(level: 'trace' | 'debug' | 'info' | 'warn' | 'error') {
    return (...args: Parameters<Logger['info']>) => {
      if (!this.#execution.replaying) this.#execution.log[level](...args);
    };
  }

  #sleep(name: string, when: SleepCall['when']): Promise<void> {
    return settledBy((settle) => {
      checkStepName(name);
      refuseInsideBody('ctx.sleep', name);
      const step = this.#execution.open(name, StepKind.SLEEP);
      if (step !== undefined) this.#execution.activity(() => callSleep(this.#execution, { step, when, settle }));
    }) as Promise<void>;
  }
}

/** A promise that is settled from elsewhere, or never; a rejection that nobody awaits must not end the process. */
function settledBy(begin: (settle: Settle) => void): Promise<unknown> {
  let resolve: (value: unknown) => void = () => undefined;
  let rejectPromise: (error: unknown) => void = () => undefined;
  const promise = new Promise<unknown>((onValue, onError) => {
    resolve = onValue;
    rejectPromise = onError;
  });
  const reject = (error: unknown) => {
    promise.catch(() => undefined);
    rejectPromise(error);
  };
  try {
    begin({ resolve, reject });
  } catch (error) {
    reject(error);
  }
  return promise;
}

/** Bad arguments reject like everything else on `ctx`. */
function settledOr(begin: () => Promise<void>): Promise<void> {
  try {
    return begin();
  } catch (error) {
    return Promise.reject(error);
  }
}

function refuseInsideBody(what: string, name: string): void {
  const { step } = currentScope();
  if (step !== undefined) {
    throw new TypeError(
      `${what}('${name}') was called inside the body of step '${step.stepId}'. Steps cannot be nested: call it from the workflow.`,
    );
  }
}
