import { durationOf, ParentClose, StepKind, WorkflowIdReusePolicy } from '@perdure/proto';
import type { ChildOptions, ChildRun } from '../../child.js';
import { encodeValue } from '../../codec/payload.js';
import { durationMs } from '../../duration.js';
import { didYouMean, refuseUnknownKeys } from '../../options.js';
import { RpcError } from '../../rpc/rpc-error.js';
import { type Signal, signalOf } from '../../signal.js';
import { checkId, shown } from '../../text.js';
import type { Workflow } from '../../workflow.js';
import type { StepRef } from '../order/program.js';
import { callAwaited } from '../step/awaited-call.js';
import { type ChildStart, ChildStarts } from '../step/child-starts.js';
import type { BegunStep } from '../step/step-host.js';
import { checkStepName } from '../step/step-options.js';
import { childRunId } from './child-run-id.js';
import type { ContextHost } from './context-host.js';
import { sendSignal } from './signals.js';
import { settledBy } from './tracked-promise.js';

const KNOWN: readonly (keyof ChildOptions)[] = [
  'name',
  'taskQueue',
  'workflowId',
  'reusePolicy',
  'parentClose',
  'priority',
  'build',
  'startDelay',
  'runTimeout',
  'executionTimeout',
  'startTimeout',
  'chainTimeout',
  'maxLostLeases',
];
const CLOSES = { cancel: ParentClose.CANCEL, terminate: ParentClose.TERMINATE, abandon: ParentClose.ABANDON } as const;
const POLICIES = {
  allow: WorkflowIdReusePolicy.ALLOW,
  'allow-if-failed': WorkflowIdReusePolicy.ALLOW_IF_FAILED,
  reject: WorkflowIdReusePolicy.REJECT,
} as const;
const MAX_WORKFLOW_ID_BYTES = 255;

/** What a step of the code does for a child; recorded like any other. */
type RunStep = (name: string, body: (step: { readonly idempotencyKey: string }) => Promise<void>) => Promise<void>;

/** Starts the children of one run. */
export class Children {
  readonly #host: ContextHost;
  readonly #starts: ChildStarts;
  readonly #step: RunStep;

  constructor(host: ContextHost, step: RunStep) {
    this.#host = host;
    this.#starts = new ChildStarts(host);
    this.#step = step;
  }

  /**
   * @param unawaited of the run; undefined: the code need not await the result
   * @throws {TypeError} naming what is wrong
   */
  start(
    workflow: Pick<Workflow, 'name' | 'callDefaults'> | string,
    input: unknown,
    options: ChildOptions,
    unawaited?: Set<string>,
  ): ChildRun {
    const host = this.#host;
    const type = typeof workflow === 'string' ? workflow : workflow?.name;
    checkId("The child's workflow", type);
    const { name = type } = options;
    checkStepName(name);
    const start = childStart(type, typeof workflow === 'string' ? options : { ...workflow.callDefaults, ...options });
    const what = `The input of child '${name}'`;
    const payload = encodeValue(host.codec, input, what);
    host.limit.check(payload, what);
    const step = host.open(name, StepKind.CHILD);
    // The execution is over: nothing settles.
    if (step === undefined) return this.#handle(name, { runId: '', workflowId: '' }, NEVER, NEVER);
    const ids = this.#idsOf(step, options);
    const isStarted = deferred();
    if (step.recorded !== undefined) isStarted.resolve();
    const result = settledBy((settle, track) => {
      if (unawaited !== undefined) track(step.stepId, unawaited);
      const begin = async (begun: BegunStep) => {
        try {
          const input = payload === undefined ? {} : { input: payload };
          const outcome = await this.#starts.start({ ...start, ...begun, ...input, childRunId: ids.runId });
          isStarted.resolve();
          return outcome;
        } catch (error) {
          isStarted.reject(error);
          throw error;
        }
      };
      const awaits = { case: undefined };
      const call = { step, kind: StepKind.CHILD, awaits, timeoutMs: undefined, settle, begin };
      void host.faults.guard(() => callAwaited(host, call));
    });
    return this.#handle(name, ids, result, isStarted.promise);
  }

  #idsOf({ stepId, seq, recorded, cut }: StepRef, { workflowId }: ChildOptions) {
    const { now, facts } = this.#host;
    const { run } = facts;
    const attemptNumber = recorded?.attemptNumber ?? (cut?.attemptNumber ?? 0) + 1;
    const runId = childRunId(now, { runId: run.runId, stepId, seq, attemptNumber });
    const derived = `${run.workflowId}/${stepId}${attemptNumber > 1 ? `/${attemptNumber}` : ''}`;
    return {
      runId,
      workflowId: workflowId ?? (Buffer.byteLength(derived) <= MAX_WORKFLOW_ID_BYTES ? derived : runId),
    };
  }

  /** @param started what is sent to the child waits for it */
  #handle(
    name: string,
    ids: Pick<ChildRun, 'runId' | 'workflowId'>,
    result: Promise<unknown>,
    started: Promise<void>,
  ): ChildRun {
    const { facts, runService } = this.#host;
    const { runId } = ids;
    return {
      ...ids,
      result: () => result,
      signal: (given, payload) =>
        this.#step(signalOf(given as Signal | string).name, async (step) => {
          await started;
          await sendSignal(this.#host, { runId }, given as Signal | string, payload, step.idempotencyKey);
        }),
      cancel: (reason = '') =>
        this.#step(`cancel ${name}`, async () => {
          await started;
          await runService.cancelRun({ namespace: facts.run.namespace, runId, reason }).catch(unlessEnded);
        }),
    };
  }
}

const NEVER = new Promise<never>(() => undefined);

function unlessEnded(error: unknown): void {
  if (!(error instanceof RpcError) || error.reason !== 'WRONG_RUN_STATE') throw error;
}

/** A promise whose rejection need not be awaited. */
function deferred() {
  let resolve: () => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<void>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

/** @throws {TypeError} naming the option that is wrong */
function childStart(workflowType: string, options: ChildOptions): ChildStart {
  refuseUnknownKeys('A child', options, KNOWN);
  const { taskQueue, workflowId, build, priority, maxLostLeases } = options;
  if (taskQueue !== undefined) checkId('taskQueue', taskQueue);
  if (workflowId !== undefined) checkId('workflowId', workflowId);
  if (build !== undefined && build !== '') checkId('build', build);
  const duration = (key: 'startDelay' | 'runTimeout' | 'executionTimeout' | 'startTimeout' | 'chainTimeout') => {
    const value = options[key];
    return value === undefined ? {} : { [key]: durationOf(durationMs(value, key)) };
  };
  return {
    workflowType,
    taskQueue: taskQueue ?? '',
    workflowId: workflowId ?? '',
    parentClose: choice('parentClose', CLOSES, options.parentClose ?? 'cancel'),
    reusePolicy: choice('reusePolicy', POLICIES, options.reusePolicy ?? 'allow'),
    ...(priority === undefined ? {} : { priority: whole('priority', priority, -100, 100) }),
    ...(build === undefined ? {} : { build }),
    ...(maxLostLeases === undefined ? {} : { maxLostLeases: whole('maxLostLeases', maxLostLeases, 1, 1_000) }),
    ...duration('startDelay'),
    ...duration('runTimeout'),
    ...duration('executionTimeout'),
    ...duration('startTimeout'),
    ...duration('chainTimeout'),
  };
}

function choice<T>(what: string, choices: Readonly<Record<string, T>>, given: string): T {
  if (Object.hasOwn(choices, given)) return choices[given] as T;
  const names = Object.keys(choices);
  throw new TypeError(
    `${what} cannot be ${shown(given)}${didYouMean(String(given), names)} Expected one of: ${names.join(', ')}.`,
  );
}

function whole(what: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new TypeError(
    `${what} must be a whole number from ${min} to ${max.toLocaleString('en')}; got ${shown(value)}.`,
  );
}
