import { RunStatus as RunStatusNumber, type WorkflowRun } from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import { errorOf } from '../errors/failure.js';
import { dateOf, optionalDate } from '../rpc/time.js';

export type RunStatus = Exclude<keyof typeof RunStatusNumber, 'UNSPECIFIED'>;

/** A run as a client sees it. */
export interface RunSummary {
  readonly runId: string;
  readonly workflowId: string;
  readonly workflowType: string;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly build: string;
  readonly status: RunStatus;
  readonly attempt: number;
  readonly priority: number;
  readonly createdAt: Date;
  readonly startedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
  readonly wakeAt: Date | undefined;
  readonly cancelRequestedAt: Date | undefined;
  /** Undefined in lists. */
  readonly input: unknown;
  /** Undefined in lists and before it has COMPLETED. */
  readonly output: unknown;
  /** Why it FAILED, or why its last attempt did. */
  readonly error: Error | undefined;
}

export function runSummary(run: WorkflowRun, codec: Codec): RunSummary {
  return {
    runId: run.runId,
    workflowId: run.workflowId,
    workflowType: run.workflowType,
    namespace: run.namespace,
    taskQueue: run.taskQueue,
    build: run.build,
    status: RunStatusNumber[run.status] as RunStatus,
    attempt: run.attempt,
    priority: run.priority,
    createdAt: run.createdAt === undefined ? new Date(0) : dateOf(run.createdAt),
    startedAt: optionalDate(run.startedAt),
    finishedAt: optionalDate(run.finishedAt),
    wakeAt: optionalDate(run.wakeAt),
    cancelRequestedAt: optionalDate(run.cancelRequestedAt),
    input: decodeValue(codec, run.input),
    output: decodeValue(codec, run.output),
    error: run.failure === undefined ? undefined : errorOf(codec, run.failure),
  };
}
