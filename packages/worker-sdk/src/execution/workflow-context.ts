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

/** The `ctx` of one execution. */
export function workflowContext(execution: RunExecution): WorkflowContext {
  let seeded: SeededRandom | undefined;
  const random = () => {
    seeded ??= new SeededRandom(execution.run.runId);
    return seeded;
  };
  const unlessReplaying =
    (level: 'trace' | 'debug' | 'info' | 'warn' | 'error') =>
    (...args: Parameters<Logger['info']>) => {
      if (!execution.replaying) execution.log[level](...args);
    };
  let log: WorkflowContext['log'] | undefined;

  const sleep = (name: string, when: SleepCall['when']): Promise<void> =>
    settledBy((settle) => {
      checkStepName(name);
      refuseInsideBody('ctx.sleep', name);
      const step = execution.open(name, StepKind.SLEEP);
      if (step !== undefined) execution.activity(() => callSleep(execution, { step, when, settle }));
    }) as Promise<void>;

  return {
    run: execution.run,
    step<T>(name: string, body: (step: StepContext) => T | PromiseLike<T>, options?: StepOptions): Promise<Awaited<T>> {
      return settledBy((settle) => {
        checkStepName(name);
        if (typeof body !== 'function') throw new TypeError(`Step '${name}' needs a function; got ${typeof body}.`);
        const resolved = resolveStepOptions(name, options);
        refuseInsideBody('ctx.step', name);
        const step = execution.open(name, StepKind.FUNCTION);
        if (step === undefined) return;
        callStep(execution, { step, body, options: resolved, settle });
      }) as Promise<Awaited<T>>;
    },
    sleep(...args: [Duration] | [string, Duration]) {
      const [name, duration] = args.length === 1 ? ['sleep', args[0]] : args;
      return settledOr(() => sleep(name, { durationMs: durationMs(duration, 'The duration of ctx.sleep') }));
    },
    sleepUntil(...args: [Date] | [string, Date]) {
      const [name, until] = args.length === 1 ? ['sleep', args[0]] : args;
      return settledOr(() => {
        if (!(until instanceof Date) || Number.isNaN(until.getTime())) {
          throw new TypeError(`ctx.sleepUntil needs a valid Date; got ${String(until)}.`);
        }
        return sleep(name, { until });
      });
    },
    uncancellable: (work) => runInScope({ ...currentScope(), uncancellable: true }, work),
    now: () => new Date(execution.now),
    random: () => random().next(),
    uuid: () => random().uuid(),
    get signal() {
      return currentScope().step?.signal ?? execution.signal;
    },
    get idempotencyKey() {
      return currentStep('ctx.idempotencyKey').idempotencyKey;
    },
    heartbeat: (detail) => currentStep('ctx.heartbeat').heartbeat(detail),
    lastHeartbeat: <T>() => currentStep('ctx.lastHeartbeat').lastHeartbeat<T>(),
    get log() {
      log ??= {
        trace: unlessReplaying('trace'),
        debug: unlessReplaying('debug'),
        info: unlessReplaying('info'),
        warn: unlessReplaying('warn'),
        error: unlessReplaying('error'),
      };
      return log;
    },
  };
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
