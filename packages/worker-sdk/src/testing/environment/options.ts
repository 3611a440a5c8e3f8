import type { Logger } from 'pino';
import type { StartOptions } from '../../client/start-options.js';
import type { Codec } from '../../codec/codec.js';
import { refuseUnknownKeys } from '../../options.js';
import { checkId, shown } from '../../text.js';
import type { WorkerOptions } from '../../worker/worker-options.js';
import { checkWorkflow, type Workflow } from '../../workflow.js';

/** Options of {@link createTestEnvironment}; each is optional. */
export interface TestEnvironmentOptions {
  /**
   * Connection string of any database of a PostgreSQL, with the right to create others. Default: environment variable DATABASE_URL, else
   * an embedded PostgreSQL that the test processes of a project share.
   */
  readonly databaseUrl?: string;
  /** Executed on every task queue that has runs of them, without further ado; also the children and activities of what is tested. */
  // biome-ignore lint/suspicious/noExplicitAny: a list of workflows with inputs and outputs of all kinds.
  readonly workflows?: readonly Workflow<any, any>[];
  /**
   * `'automatic'`, the default: while a test waits for a run, and everything in the environment waits as well, time skips to when
   * something is due. `'manual'`: only `advance` moves the clock.
   */
  readonly timeSkips?: 'automatic' | 'manual';
  /** Where `run`, `start` and `worker` put runs unless told otherwise; default `test`. */
  readonly taskQueue?: string;
  /** Of clients and workers; default as for a worker. */
  readonly codec?: Codec;
  /** Of server, reaper and workers; default: nothing is logged. */
  readonly logger?: Logger;
}

/** Options of a start in a test: the task queue has a default. */
export type TestStartOptions = Omit<StartOptions, 'taskQueue'> & Partial<Pick<StartOptions, 'taskQueue'>>;

/** Options of a worker in a test: the task queue has a default, and the connection is the environment's. */
export type TestWorkerOptions = Omit<WorkerOptions, 'taskQueue' | 'address' | 'connection'> &
  Partial<Pick<WorkerOptions, 'taskQueue'>>;

/** The arguments after the workflow. */
export type TestInput<Input> = undefined extends Input
  ? readonly [input?: Input, options?: TestStartOptions]
  : readonly [input: Input, options?: TestStartOptions];

const KNOWN: readonly (keyof TestEnvironmentOptions)[] = [
  'databaseUrl',
  'workflows',
  'timeSkips',
  'taskQueue',
  'codec',
  'logger',
];

/** @throws {TypeError} naming the option that is wrong */
export function checkEnvironmentOptions(options: TestEnvironmentOptions): void {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`The options of a test environment must be an object; got ${shown(options)}.`);
  }
  refuseUnknownKeys('A test environment', options, KNOWN);
  const { databaseUrl, workflows, timeSkips, taskQueue } = options;
  if (databaseUrl !== undefined && !/^postgres(ql)?:\/\//.test(databaseUrl)) {
    throw new TypeError('databaseUrl must be a connection string that begins with postgres://.');
  }
  if (workflows !== undefined) {
    if (!Array.isArray(workflows)) throw new TypeError(`workflows must be an array; got ${shown(workflows)}.`);
    for (const [index, one] of workflows.entries()) checkWorkflow(`workflows[${index}]`, one);
  }
  if (timeSkips !== undefined && timeSkips !== 'automatic' && timeSkips !== 'manual') {
    throw new TypeError(`timeSkips must be 'automatic' or 'manual'; got ${shown(timeSkips)}.`);
  }
  if (taskQueue !== undefined) checkId('taskQueue', taskQueue);
}
