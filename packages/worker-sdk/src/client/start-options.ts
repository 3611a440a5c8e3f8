import { WorkflowIdReusePolicy } from '@perdure/proto';
import { type Duration, durationMs } from '../duration.js';
import { didYouMean, refuseUnknownKeys } from '../options.js';
import { checkId, MAX_ID_BYTES, shown } from '../text.js';
import type { ResultOptions } from './await-result.js';

/** How a run is started. */
export interface StartOptions {
  /** The queue whose workers execute it; 1 to 255 bytes. */
  readonly taskQueue: string;
  /**
   * Your own id, 1 to 255 bytes, unique among open runs: a second start with it and the same workflow, queue and input returns
   * the open run. Default: the request id, so a UUID of its own unless you give one.
   */
  readonly workflowId?: string;
  /** What to do when the id was used before and that run has ended; default `'allow'`. */
  readonly reusePolicy?: 'allow' | 'allow-if-failed' | 'reject' | 'terminate-existing';
  /** Equal ids are one start, whenever they come. Default: one for this call, so that its own repeats start one run. */
  readonly requestId?: string;
  /** −100 to 100; higher is claimed first; default 0. */
  readonly priority?: number;
  /** Build that the run is meant for; at most 255 bytes. */
  readonly build?: string;
  /** Wait before the first claim; default none. */
  readonly startDelay?: Duration;
  /** Fails the run with RUN_TIMEOUT when it has not ended by then, retries and sleeps included; default never. */
  readonly runTimeout?: Duration;
  /** Fails the run with EXECUTION_TIMEOUT when one attempt takes longer, sleeps included; default never. */
  readonly executionTimeout?: Duration;
  /** Workers in a row that it may take down, without completing a step, before it FAILs; 1 to 1,000; default 10. */
  readonly maxLostLeases?: number;
}

/** What comes after the workflow: a workflow without input needs none. */
export type InputAnd<Options, Input> = undefined extends Input
  ? readonly [options: Options] | readonly [input: Input, options: Options]
  : readonly [input: Input, options: Options];

/** One start of many. */
export type StartItem<Input> = { readonly options: StartOptions } & (undefined extends Input
  ? { readonly input?: Input }
  : { readonly input: Input });

export const REUSE_POLICIES = {
  allow: WorkflowIdReusePolicy.ALLOW,
  'allow-if-failed': WorkflowIdReusePolicy.ALLOW_IF_FAILED,
  reject: WorkflowIdReusePolicy.REJECT,
  'terminate-existing': WorkflowIdReusePolicy.TERMINATE_EXISTING,
} as const;

const KNOWN: readonly (keyof StartOptions | keyof ResultOptions)[] = [
  'taskQueue',
  'workflowId',
  'reusePolicy',
  'requestId',
  'priority',
  'build',
  'startDelay',
  'runTimeout',
  'executionTimeout',
  'maxLostLeases',
];
const KNOWN_OF_EXECUTE = [...KNOWN, 'timeout', 'signal'] as const;

/** @throws {TypeError} naming the option that is wrong */
export function checkStartOptions(kind: 'start' | 'execute', options: StartOptions | undefined): void {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`The options of a start must be an object with a taskQueue; got ${shown(options)}.`);
  }
  refuseUnknownKeys(kind === 'start' ? 'A start' : 'An execute', options, kind === 'start' ? KNOWN : KNOWN_OF_EXECUTE);
  const { taskQueue, workflowId, requestId, build, reusePolicy, priority, maxLostLeases } = options;
  checkId('taskQueue', taskQueue);
  if (workflowId !== undefined) checkId('workflowId', workflowId);
  if (requestId !== undefined) checkId('requestId', requestId);
  if (build !== undefined && build !== '') checkId('build', build, MAX_ID_BYTES);
  if (reusePolicy !== undefined && !Object.hasOwn(REUSE_POLICIES, reusePolicy)) {
    const names = Object.keys(REUSE_POLICIES);
    throw new TypeError(
      `reusePolicy has no value ${shown(reusePolicy)}${didYouMean(String(reusePolicy), names)} Expected one of: ${names.join(', ')}.`,
    );
  }
  if (priority !== undefined) checkWhole('priority', priority, -100, 100);
  if (maxLostLeases !== undefined) checkWhole('maxLostLeases', maxLostLeases, 1, 1_000);
  for (const key of ['startDelay', 'runTimeout', 'executionTimeout'] as const) {
    if (options[key] !== undefined) durationMs(options[key], key);
  }
}

function checkWhole(what: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new TypeError(
    `${what} must be a whole number from ${min} to ${max.toLocaleString('en')}; got ${shown(value)}.`,
  );
}
