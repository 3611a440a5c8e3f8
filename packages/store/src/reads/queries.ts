/** Parameters and results of the read queries. */
import type { MemoCursor } from '../commands.js';
import type {
  Compensation,
  DispatchPause,
  Failure,
  LostLease,
  MemoEntry,
  Payload,
  RecordedAction,
  Run,
  RunPause,
  RunStatus,
  StepAttempt,
  Worker,
  WorkerStatus,
} from '../model.js';

/** Exactly one of the two names the run; a workflow id means its open run, else the newest one. */
export interface RunRef {
  readonly namespace: string;
  readonly runId: string | null;
  readonly workflowId: string | null;
}

/** How a run ended. */
export interface RunEnd {
  readonly status: RunStatus;
  readonly output: Payload | null;
  readonly failure: Failure | null;
  readonly cancelReason: string | null;
}

export interface RunFilter {
  readonly namespace: string;
  readonly statuses: readonly RunStatus[];
  readonly workflowType: string | null;
  readonly taskQueue: string | null;
  readonly workflowId: string | null;
  readonly build: string | null;
  readonly compensation: Compensation | null;
  /** Children of this run. */
  readonly parentRunId: string | null;
  /** Only runs that are held: paused, because their worker could not continue them. */
  readonly held: boolean;
  /** Only runs that are paused, also those that their worker has not given back yet. Only {@link findMatchingRuns} looks at it. */
  readonly paused: boolean;
  /** Only dead letters: runs that have FAILED and that nobody has dealt with. */
  readonly unresolved: boolean;
  /** Only dead letters that failed in this way. */
  readonly failureFingerprint: string | null;
  readonly createdAfter: Date | null;
  readonly createdBefore: Date | null;
}
export interface RunPage {
  readonly runs: readonly Run[];
  /** The next page continues after this run id; null on the last page. */
  readonly next: string | null;
}

export interface StatusCount {
  readonly status: RunStatus;
  readonly count: number;
}

/** Position in a history: after this (seq, stepId, attemptNumber). */
export interface HistoryCursor {
  readonly seq: number;
  readonly stepId: string;
  readonly attemptNumber: number;
}
export interface HistoryPage {
  readonly steps: readonly StepAttempt[];
  readonly next: HistoryCursor | null;
}

export interface MemoPage {
  readonly memo: readonly MemoEntry[];
  readonly next: MemoCursor | null;
}

/** What DescribeRun needs beyond the run. */
export interface RunFacts {
  readonly now: Date;
  /** Open attempts, pending timers and steps waiting for a retry; at most 100. */
  readonly currentSteps: readonly StepAttempt[];
  readonly completedSteps: number;
  readonly attempts: number;
  readonly workersOnline: number;
  readonly workersWithType: number;
  /** The worker that holds the lease; null when none does, or when its row was deleted. */
  readonly holder: WorkerWithRuns | null;
  /** The end of the latest attempt that has ended; null when none has. */
  readonly lastStepEndedAt: Date | null;
  /** Steps whose failure is final, the latest first, at most 20; empty unless the run FAILED. */
  readonly failedSteps: readonly StepAttempt[];
  readonly reapersAlive: number;
  /** What people did to the run, newest first. */
  readonly actions: readonly RecordedAction[];
  /** The workers that the run has lost, the latest last; at most 20. */
  readonly lostLeases: readonly LostLease[];
  /** Pauses of its task queue and its workflow type. */
  readonly pauses: readonly DispatchPause[];
}

export interface WorkerFilter {
  readonly namespace: string;
  readonly taskQueue: string | null;
  readonly statuses: readonly WorkerStatus[];
}
export type WorkerWithRuns = Worker & { readonly running: number };
/** Position in a list of workers, most recently seen first. */
export interface WorkerCursor {
  readonly lastSeenAt: Date;
  readonly workerId: string;
}
export interface WorkerPage {
  readonly workers: readonly WorkerWithRuns[];
  readonly next: WorkerCursor | null;
}

export interface TaskQueueFacts {
  readonly name: string;
  readonly pending: number;
  readonly running: number;
  readonly sleeping: number;
  readonly oldestPendingAgeMs: number | null;
  readonly workersOnline: number;
  readonly slots: number;
}

export interface Namespace {
  readonly name: string;
  readonly description: string;
  readonly createdAt: Date;
}

/** A reaper that is alive. */
export interface Reaper {
  readonly reaperId: string;
  readonly identity: string;
  readonly startedAt: Date;
  readonly lastSeenAt: Date;
}

/** Why runs of a namespace do not move, and which have failed. Counts stop at 100,000. */
export interface Diagnosis {
  /** SLEEPING runs that have been due for more than 5 s. */
  readonly overdueSleepers: number;
  readonly longestOverdueMs: number;
  /** RUNNING runs whose lease expired more than 5 s ago and was not reclaimed. */
  readonly expiredLeases: number;
  readonly longestExpiredMs: number;
  /** Open runs that have lost a lease since they last completed a step. */
  readonly runsLosingLeases: number;
  readonly mostLostLeases: number;
  /** The largest 100 groups of claimable runs that no worker online can execute. */
  readonly withoutWorker: readonly RunsWithoutWorker[];
  /** The largest 100 groups among the newest 10,000 FAILED runs. */
  readonly failed: readonly FailedRuns[];
  /** The largest 100 groups among the newest 10,000 paused runs. */
  readonly paused: readonly PausedRuns[];
  /** Task queues and workflow types that are paused. */
  readonly pauses: readonly DispatchPause[];
}
export interface PausedRuns {
  readonly workflowType: string;
  /** Their worker could not continue them. */
  readonly held: boolean;
  readonly runs: number;
  readonly newestRunId: string;
  readonly newest: RunPause;
}
export interface RunsWithoutWorker {
  readonly taskQueue: string;
  readonly workflowType: string;
  readonly runs: number;
  readonly oldestAgeMs: number;
  /** Workers online for the queue; none of them has the type. */
  readonly workersOnline: number;
}
export interface FailedRuns {
  readonly workflowType: string;
  readonly runs: number;
  readonly newestRunId: string;
  readonly newestAt: Date;
}

export interface DatabaseFacts {
  readonly databaseVersion: string;
  readonly schemaVersion: number;
  readonly now: Date;
  readonly fsync: boolean;
  readonly synchronousCommit: boolean;
  readonly servers: number;
}
