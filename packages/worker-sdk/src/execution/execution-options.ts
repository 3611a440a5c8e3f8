import type { LeasedRun } from '@perdure/proto';
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { Codec } from '../codec/codec.js';
import type { RunService, WorkerTransport } from '../rpc/worker-transport.js';
import type { Workflow } from '../workflow.js';
import type { LastSteps } from './end/last-steps.js';
import type { HeldRun } from './held-run.js';
import type { Lease } from './lease/lease.js';
import type { Fault } from './run/faults.js';

export interface RunExecutionOptions {
  readonly leased: LeasedRun;
  readonly lease: Lease;
  /** When the claim was received, by the monotonic clock. */
  readonly claimedAtMs: number;
  readonly workflow: Workflow;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly transport: WorkerTransport;
  readonly runService: RunService;
  /** The worker keeps the run in memory when it is suspended. */
  readonly isKept: boolean;
  /** At which level calls that the code did not await are logged. */
  readonly unawaitedCalls: 'error' | 'warn';
  /** Of all executions of the worker. */
  readonly lastSteps: LastSteps;
  readonly codec: Codec;
  readonly maxPayloadBytes: number;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Counts a fault of the run. */
  readonly nextFault: () => Fault;
  /** What becomes of a run whose code no longer fits what is recorded. */
  readonly onNonDeterminism: 'hold' | 'fail';
  /** Sends what `heartbeats` holds now. */
  readonly flushHeartbeats: (run: HeldRun) => Promise<void>;
}
