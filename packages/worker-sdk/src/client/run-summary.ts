import {
  type Compensation as CompensationNumber,
  dateOf,
  type RunPause,
  RunStatus as RunStatusNumber,
  type WorkflowRun,
} from '@perdure/proto';
import type { Codec } from '../codec/codec.js';
import { decodeValue } from '../codec/payload.js';
import { originIn } from '../errors/error-facts.js';
import { errorOf } from '../errors/failure.js';

/**
 * A run's status. Open: PENDING, RUNNING, SLEEPING, WAITING, PAUSED. Ended: COMPLETED, FAILED, CANCELLED, TERMINATED, CONTINUED.
 */
export type RunStatus = Exclude<keyof typeof RunStatusNumber, 'UNSPECIFIED'>;

/** Whether what a run has done is being undone, or was. */
export type Compensation = Exclude<keyof typeof CompensationNumber, 'UNSPECIFIED'>;

const compensationNames: Readonly<Record<number, Compensation>> = { 1: 'COMPENSATING', 2: 'COMPLETE', 3: 'PARTIAL' };

/** A run as a client sees it. */
export interface RunSummary {
  /** A UUIDv7. */
  readonly runId: string;
  /** Chosen at the start; unique among open runs of the namespace. */
  readonly workflowId: string;
  /** The workflow's name. */
  readonly workflowType: string;
  readonly namespace: string;
  /** The queue whose workers execute it. */
  readonly taskQueue: string;
  /** Build that the run was started for; empty when the start named none. */
  readonly build: string;
  readonly status: RunStatus;
  /** Attempt of the run, from 1; rises with every run-level retry and every lost worker. */
  readonly attempt: number;
  /** −100 to 100; higher is claimed first. */
  readonly priority: number;
  /** When the start was committed; like all times here by the database's clock. */
  readonly createdAt: Date;
  /** When a worker first claimed it; undefined before. */
  readonly startedAt: Date | undefined;
  /** When it ended; undefined while it is open. */
  readonly finishedAt: Date | undefined;
  /** When it becomes claimable; undefined unless it is SLEEPING. */
  readonly wakeAt: Date | undefined;
  /** When its cancellation was requested; undefined when it was not. */
  readonly cancelRequestedAt: Date | undefined;
  /** Who has paused it, when and why; undefined when it is not paused. A run that its worker has not given back yet is RUNNING. */
  readonly pause: RunPauseSummary | undefined;
  /** COMPENSATING while its compensations run, then what came of them; undefined when there were none. */
  readonly compensation: Compensation | undefined;
  /** Undefined in lists. */
  readonly input: unknown;
  /** Undefined in lists and before it has COMPLETED. */
  readonly output: unknown;
  /** Why it FAILED, or why its latest attempt failed; undefined otherwise. */
  readonly error: Error | undefined;
  /** Equal for runs that FAILED in the same way, see `client.failures()`; undefined otherwise. */
  readonly failureFingerprint: string | undefined;
  /** When a person dismissed or restarted the FAILED run; undefined while nobody has. */
  readonly resolvedAt: Date | undefined;
}

/** A pause of a run. */
export interface RunPauseSummary {
  /** By the database's clock. */
  readonly pausedAt: Date;
  /** Empty when the run is held. */
  readonly pausedBy: string;
  /** May be empty. */
  readonly reason: string;
  /** Why its worker could not continue it: the run is held, see `onNonDeterminism` of a worker. Undefined when somebody has paused it. */
  readonly error: Error | undefined;
}

function pauseSummary(pause: RunPause | undefined, codec: Codec): RunPauseSummary | undefined {
  if (pause === undefined) return undefined;
  const { pausedAt, pausedBy, reason, failure } = pause;
  return {
    pausedAt: dateOf(pausedAt) ?? new Date(0),
    pausedBy,
    reason,
    error: failure === undefined ? undefined : errorOf(codec, failure),
  };
}

/** @param codec must be the one that the run was started with */
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
    startedAt: dateOf(run.startedAt),
    finishedAt: dateOf(run.finishedAt),
    wakeAt: dateOf(run.wakeAt),
    cancelRequestedAt: dateOf(run.cancelRequestedAt),
    pause: pauseSummary(run.pause, codec),
    compensation: compensationNames[run.compensation],
    input: decodeValue(codec, run.input),
    output: decodeValue(codec, run.output),
    error: run.failure === undefined ? undefined : errorOf(codec, run.failure, originIn(run, run.failure.stepId)),
    failureFingerprint: run.failureFingerprint || undefined,
    resolvedAt: dateOf(run.resolvedAt),
  };
}
