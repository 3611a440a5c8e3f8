import type { Client } from '../../client/client.js';
import type { RunHandle } from '../../client/run-handle.js';
import type { Duration } from '../../duration.js';
import type { Connection } from '../../rpc/connection.js';
import type { Worker } from '../../worker/worker.js';
import type { WorkerOptions } from '../../worker/worker-options.js';
import type { Workflow } from '../../workflow.js';
import type { Bodies } from '../bodies/bodies.js';
import type { Observation } from '../bodies/observed-workflow.js';
import type { TestTime } from '../time/test-time.js';

/** What crash tests need of their environment. */
export interface CrashHost {
  readonly taskQueue: string;
  readonly bodies: Bodies;
  readonly time: TestTime;
  readonly connection: Connection;
  clientOf(namespace: string): Client;
  startWorker(options: WorkerOptions, seedOf: Observation['seedOf']): Promise<Worker>;
  /** The workflows that the environment executes by itself. */
  known(): readonly Workflow[];
  /** @returns ends it */
  serveNamespace(namespace: string, serve: (taskQueue: string) => Promise<void>): () => void;
  untilWaiting(handle: Pick<RunHandle, 'runId'>, name: string | undefined, signal: AbortSignal): Promise<void>;
  until<T>(look: () => T | Promise<T>, signal: AbortSignal): Promise<NonNullable<T>>;
  advance(duration: Duration): Promise<void>;
}
