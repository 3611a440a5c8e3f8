import { WorkflowIdReusePolicy } from '@perdure/proto';
import { type Duration, durationMs } from '../duration.js';
import { didYouMean, refuseUnknownKeys } from '../options.js';
import { checkId, MAX_ID_BYTES, shown } from '../text.js';
import type { ResultOptions } from './result-deadline.js';

/** How a run is started. */
export interface StartOptions {
  /** The task queue whose workers execute it; 1 to 255 bytes. */
  readonly taskQueue: string;
  /**
   * Your own id, 1 to 255 bytes, unique among open runs: an equal second start (same workflow, queue and
   * input) returns the open run. Default: the request id.
   */
  readonly workflowId?: string;
  /** Whether an id may be used again, and what happens to a run that has it; default `'allow'`: once that run has ended. */
  readonly reusePolicy?: 'allow' | 'allow-if-failed' | 'reject' | 'terminate-existing';
  /** Starts with the same id start one run, at any time; 1 to 255 bytes. Default: a UUIDv7 for this call and its repeats. */
  readonly requestId?: string;
  /** −100 to 100; higher is claimed first; default 0. */
  readonly priority?: number;
  /** Build that the run is meant for; at most 255 bytes; default empty. */
  readonly build?: string;
  /** Wait before the first claim, 0 to 10 years; default 0. */
  readonly startDelay?: Duration;
  /** Fails the run with RUN_TIMEOUT this long after its start, retries and sleeps included; at most 10 years; default: no limit. */
  readonly runTimeout?: Duration;
  /** Fails the run with EXECUTION_TIMEOUT when one attempt takes longer, sleeps included; at most 10 years; default: no limit. */
  readonly executionTimeout?: Duration;
  /** Fails the run with START_TIMEOUT when no worker has claimed it this long after it could be; at most 10 years; default: no limit. */
  readonly startTimeout?: Duration;
  /**
   * Fails the run with CHAIN_TIMEOUT this long after its start, retries and all runs that continue it included; at most 10 years;
   * default: no limit.
   */
  readonly chainTimeout?: Duration;
  /** Leases that it may lose in a row, without completing a step, before it FAILs; 1 to 1,000; default 10. */
  readonly maxLostLeases?: number;
}

/** The arguments after the workflow: input and options; a workflow without input needs options alone. */
export type InputAnd<Options, Input> = undefined extends Input
  ? readonly [options: Options] | readonly [input: Input, options: Options]
  : readonly [input: Input, options: Options];

/** One start of a `startMany`. */
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
  'startTimeout',
  'chainTimeout',
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
      `reusePolicy cannot be ${shown(reusePolicy)}${didYouMean(String(reusePolicy), names)} Expected one of: ${names.join(', ')}.`,
    );
  }
  if (priority !== undefined) checkWhole('priority', priority, -100, 100);
  if (maxLostLeases !== undefined) checkWhole('maxLostLeases', maxLostLeases, 1, 1_000);
  for (const key of ['startDelay', 'runTimeout', 'executionTimeout', 'startTimeout', 'chainTimeout'] as const) {
    if (options[key] !== undefined) durationMs(options[key], key);
  }
}

function checkWhole(what: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new TypeError(
    `${what} must be a whole number from ${min} to ${max.toLocaleString('en')}; got ${shown(value)}.`,
  );
}
