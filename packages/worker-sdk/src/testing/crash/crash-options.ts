import type { Client } from '../../client/client.js';
import type { RunHandle } from '../../client/run-handle.js';
import type { StartOptions } from '../../client/start-options.js';
import { type Duration, durationMs } from '../../duration.js';
import { refuseUnknownKeys } from '../../options.js';
import { shown } from '../../text.js';
import type { WorkerOptions } from '../../worker/worker-options.js';
import { checkWorkflow, type Workflow } from '../../workflow.js';

/** One execution of the workflow, as the test's own functions see it. */
export interface CrashRun<Output = unknown> {
  readonly handle: RunHandle<Output>;
  /** A client of the namespace that this execution has to itself. */
  readonly client: Client;
  /** As `env.untilWaiting`. */
  untilWaiting(name?: string): Promise<void>;
  /** As `env.until`. */
  until<T>(look: () => T | Promise<T>): Promise<NonNullable<T>>;
  /** As `env.advance`. */
  advance(duration: Duration): Promise<void>;
}

/** Options of `crashEverywhere`; each is optional. */
export interface CrashOptions<Output = unknown> {
  /** Children and activities that the workflow starts; default: those that the environment has. */
  // biome-ignore lint/suspicious/noExplicitAny: a list of workflows with inputs and outputs of all kinds.
  readonly workflows?: readonly Workflow<any, any>[];
  /** What comes from outside while the run is open: signals, updates, events. Called once per execution; the result is awaited after it. */
  readonly drive?: (run: CrashRun<Output>) => Promise<void>;
  /**
   * What the run has done to the world, looked up after its end; must be the same after each execution. With a probe, steps that were executed
   * are not compared, so that a workflow may do the same in other steps after a crash.
   */
  readonly probe?: (run: CrashRun<Output>) => unknown;
  /** Makes results, states and probes comparable, for example without times. Ids of runs are the same already. */
  readonly normalize?: (value: unknown) => unknown;
  /** Only crash points for which it returns true, by their names. */
  readonly only?: (point: string) => boolean;
  /** How the run is started, without task queue and workflow id. */
  readonly start?: Omit<StartOptions, 'taskQueue' | 'workflowId' | 'requestId'>;
  /** Options of the workers, for example `{ warmRuns: 0 }` for a replay after each suspension. */
  readonly worker?: Pick<WorkerOptions, 'warmRuns' | 'concurrency' | 'codec'>;
  /** An execution that takes longer, in real time, is reported as hanging; default 30 s. */
  readonly timeout?: Duration;
}

const KNOWN: readonly (keyof CrashOptions)[] = [
  'workflows',
  'drive',
  'probe',
  'normalize',
  'only',
  'start',
  'worker',
  'timeout',
];

/** @throws {TypeError} naming the option that is wrong */
export function checkCrashOptions(options: CrashOptions<never>): void {
  refuseUnknownKeys('A crash test', options, KNOWN);
  for (const name of ['drive', 'probe', 'normalize', 'only'] as const) {
    const value = options[name];
    if (value !== undefined && typeof value !== 'function') {
      throw new TypeError(`${name} must be a function; got ${shown(value)}.`);
    }
  }
  for (const [index, one] of (options.workflows ?? []).entries()) checkWorkflow(`workflows[${index}]`, one);
  if (options.timeout !== undefined) durationMs(options.timeout, 'timeout');
}
