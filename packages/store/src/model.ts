/** The store's data model. Names and meanings are those of `proto/perdure/v1/types.proto`. */

/** PAUSED is what readers are shown: a pause is stored beside the status (decision 0026). */
export const RUN_STATUSES = [
  'PENDING',
  'RUNNING',
  'SLEEPING',
  'WAITING',
  'PAUSED',
  'COMPLETED',
  'FAILED',
  'CANCELLED',
  'TERMINATED',
  'CONTINUED',
] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

export const TERMINAL_STATUSES = ['COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'CONTINUED'] as const;
export type TerminalStatus = (typeof TERMINAL_STATUSES)[number];

/** SKIPPED is reserved. */
export const STEP_STATUSES = ['RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED', 'SKIPPED', 'TIMED_OUT'] as const;
export type StepStatus = (typeof STEP_STATUSES)[number];

/** HUMAN, TRANSACTION and VERSION are reserved. */
export const STEP_KINDS = [
  'FUNCTION',
  'SLEEP',
  'SIGNAL',
  'CHILD',
  'HUMAN',
  'TRANSACTION',
  'VERSION',
  'EVENT',
  'PROMISE',
  'UPDATE',
] as const;
export type StepKind = (typeof STEP_KINDS)[number];

/** Kinds of steps that end from outside of the run (decision 0020). */
export const AWAITED_KINDS = ['SIGNAL', 'EVENT', 'PROMISE', 'UPDATE'] as const;
export type AwaitedKind = (typeof AWAITED_KINDS)[number];

export const WORKER_STATUSES = ['ONLINE', 'DRAINING', 'OFFLINE'] as const;
export type WorkerStatus = (typeof WORKER_STATUSES)[number];

/** How a run last left RUNNING, or why it was not claimed yet. */
export const YIELD_REASONS = [
  'START_DELAY',
  'SUSPEND',
  'RELEASE',
  'RUN_RETRY',
  'RECLAIM',
  'STEP_TIMEOUT',
  'HOLD',
] as const;
export type YieldReason = (typeof YIELD_REASONS)[number];

export const FAILURE_REASONS = [
  'APPLICATION',
  'STEP_TIMEOUT',
  'HEARTBEAT_TIMEOUT',
  'RUN_TIMEOUT',
  'EXECUTION_TIMEOUT',
  'WORKER_LOST',
  'TOO_MANY_LOST_LEASES',
  'NON_DETERMINISM',
  'CANCELLED',
  'TERMINATED',
  'PAYLOAD_TOO_LARGE',
  'INVALID_INPUT',
  'UPDATE_REFUSED',
  'CHILD_FAILED',
  'CHILD_CANCELLED',
  'CHILD_TERMINATED',
  'CHILD_NOT_STARTED',
  'START_TIMEOUT',
  'CHAIN_TIMEOUT',
  'RETRY_BUDGET',
] as const;
export type FailureReason = (typeof FAILURE_REASONS)[number];

/** Whether what a run has done is being undone, or was. */
export const COMPENSATIONS = ['COMPENSATING', 'COMPLETE', 'PARTIAL'] as const;
export type Compensation = (typeof COMPENSATIONS)[number];

/** Opaque bytes and the name of their codec. */
export interface Payload {
  readonly data: Uint8Array;
  readonly encoding: string;
}

/** What happens to a child run when its parent no longer waits for it. */
export const PARENT_CLOSES = ['CANCEL', 'TERMINATE', 'ABANDON'] as const;
export type ParentClose = (typeof PARENT_CLOSES)[number];

/** The run that started this one, and its step that did. */
export interface Parent {
  readonly runId: string;
  readonly stepId: string;
  readonly close: ParentClose;
}

/** How a run came from another one. */
export const RUN_ORIGINS = ['RESTART', 'CONTINUE', 'FORK'] as const;
export type RunOrigin = (typeof RUN_ORIGINS)[number];

export interface Origin {
  readonly runId: string;
  readonly kind: RunOrigin;
}

/** What people do to runs. */
export const RUN_ACTION_KINDS = [
  'RETRY',
  'RESTART',
  'COMPLETE_STEP',
  'FAIL_STEP',
  'SKIP_STEP',
  'FORK',
  'DISMISS',
] as const;
export type RunActionKind = (typeof RUN_ACTION_KINDS)[number];

/** What a bulk operation does to each run. */
export const BULK_KINDS = ['CANCEL', 'TERMINATE', 'PAUSE', 'RESUME', 'RETRY', 'SIGNAL', 'DELETE', 'DISMISS'] as const;
export type BulkKind = (typeof BULK_KINDS)[number];

export const BULK_STATUSES = ['RUNNING', 'PAUSED', 'COMPLETED', 'ABORTED'] as const;
export type BulkStatus = (typeof BULK_STATUSES)[number];

/** What a person did to a bulk operation. */
export const BULK_ACTION_KINDS = ['START', 'PAUSE', 'RESUME', 'ABORT'] as const;
export type BulkActionKind = (typeof BULK_ACTION_KINDS)[number];

/** Something that a person did to a run. */
export interface RecordedAction {
  readonly kind: RunActionKind;
  readonly actedAt: Date;
  readonly actor: string;
  readonly reason: string;
  /** The run that it has started. */
  readonly otherRunId: string | null;
  /** RETRY: how the run had ended. */
  readonly previous: { readonly status: RunStatus; readonly failure: Failure | null } | null;
  /** The step that it has ended, or that the other run begins with. */
  readonly stepId: string | null;
}

/** A structured error as in the `failure` columns (jsonb). NUL characters are replaced before. */
export interface Failure {
  readonly type: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: string;
  readonly reason: FailureReason;
  /** `data` is base64. */
  readonly details?: { readonly data: string; readonly encoding: string };
  readonly cause?: Failure;
  /** The errors of an AggregateError. */
  readonly errors?: readonly Failure[];
  readonly nonRetryable?: boolean;
  readonly stepId?: string;
  /** The child run that this failure is about. */
  readonly child?: { readonly runId: string; readonly workflowId: string; readonly workflowType: string };
  /** What was compensated; in the failure of a run. */
  readonly compensation?: CompensationReport;
  /** Where it began, when it was passed on from there. */
  readonly origin?: FailureOrigin;
  /** The latest last; with TOO_MANY_LOST_LEASES. */
  readonly lostLeases?: readonly LostLease[];
  /** The whole failure, encrypted by the SDK; `data` is base64. */
  readonly sealed?: { readonly data: string; readonly encoding: string };
}

/** Where a failure began. */
export interface FailureOrigin {
  readonly runId: string;
  readonly workflowType: string;
  readonly stepId: string;
  readonly attempt: number;
  readonly maxAttempts: number;
}

/** A lease that a run has lost with its worker. Times are ISO 8601. */
export interface LostLease {
  readonly leaseToken: number;
  readonly workerId: string;
  readonly workerIdentity: string;
  readonly build: string;
  readonly lastSeenAt: string;
  readonly lostAt: string;
  readonly openSteps: readonly string[];
  readonly counted: boolean;
}

export interface CompensationReport {
  /** Step ids. */
  readonly compensated: readonly string[];
  readonly failed: readonly { readonly stepId: string; readonly failure: Failure }[];
}

export interface Run {
  readonly runId: string;
  readonly namespace: string;
  readonly workflowId: string;
  readonly workflowType: string;
  readonly build: string;
  readonly taskQueue: string;
  readonly priority: number;
  readonly status: RunStatus;
  readonly yieldReason: YieldReason | null;
  readonly attempt: number;
  readonly leaseToken: number;
  readonly leasedBy: string | null;
  readonly leaseExpiresAt: Date | null;
  readonly availableAt: Date | null;
  readonly wakeAt: Date | null;
  readonly runDeadlineAt: Date | null;
  readonly executionDeadlineAt: Date | null;
  /** Null: no start timeout, or a worker has claimed it. */
  readonly startDeadlineAt: Date | null;
  /** Null: no chain timeout. */
  readonly chainDeadlineAt: Date | null;
  readonly cancelRequestedAt: Date | null;
  readonly cancelReason: string | null;
  readonly lostLeases: number;
  /** Run-level retries so far. */
  readonly retries: number;
  readonly createdAt: Date;
  readonly startedAt: Date | null;
  readonly updatedAt: Date;
  readonly finishedAt: Date | null;
  /** Absent in lists. */
  readonly input?: Payload | null;
  /** Absent in lists. */
  readonly output?: Payload | null;
  readonly failure: Failure | null;
  /** The reason given with the latest release. */
  readonly lastReleaseReason: string | null;
  /** Null: nothing of it has been compensated. */
  readonly compensation: Compensation | null;
  /** Null: it was not started by a run. */
  readonly parent: Parent | null;
  /** Null: it is not paused, or has ended. */
  readonly pause: RunPause | null;
  /** Null: it came from no other run. */
  readonly origin: Origin | null;
  /** The first run of its chain; null for that run, and when it continues none. */
  readonly firstRunId: string | null;
  /** The run that it was continued as. */
  readonly nextRunId: string | null;
  /** When a person last retried it. */
  readonly retriedAt: Date | null;
  /** Equal for runs that failed in the same way; null unless FAILED. */
  readonly failureFingerprint: string | null;
  /** When a person dismissed or restarted it; null unless FAILED. */
  readonly resolvedAt: Date | null;
}

/** A pause of a run: who, when and why. */
export interface RunPause {
  readonly pausedAt: Date;
  /** Who paused it, for people; empty when Perdure did. */
  readonly pausedBy: string;
  readonly reason: string;
  /** Why its worker could not continue it, when Perdure has paused it. */
  readonly failure: Failure | null;
  /** Null: the pause lasts. */
  readonly resumedAt: Date | null;
  readonly resumedBy: string | null;
}

export const DISPATCH_KINDS = ['TASK_QUEUE', 'WORKFLOW_TYPE'] as const;
export type DispatchKind = (typeof DISPATCH_KINDS)[number];

/** A task queue or a workflow type of which no run is claimed. */
export interface DispatchPause {
  readonly namespace: string;
  readonly kind: DispatchKind;
  readonly name: string;
  readonly pausedAt: Date;
  readonly pausedBy: string;
  readonly reason: string;
}

export interface StepAttempt {
  readonly runId: string;
  readonly stepId: string;
  readonly seq: number;
  readonly kind: StepKind;
  readonly attemptNumber: number;
  readonly countedAttempt: number;
  readonly maxCountedAttempts: number;
  readonly isLatest: boolean;
  /** Taken back by a run-level retry. */
  readonly isCut: boolean;
  readonly status: StepStatus;
  readonly workerId: string | null;
  readonly leaseToken: number;
  readonly eventSeq: number | null;
  readonly startedAt: Date;
  readonly finishedAt: Date | null;
  readonly nextRetryAt: Date | null;
  readonly firesAt: Date | null;
  /** What a step of an awaited kind waits for, or has waited for: the name of a signal or of the update that it received, the id of a promise or a child run, an {@link EventWait} as JSON. */
  readonly awaits: string | null;
  /** Who sent the signal or the update that it received; in histories. */
  readonly sender?: string;
  /** The number of the action with which a person has ended it, in its run. */
  readonly actionSeq: number | null;
  /** That action; in histories. */
  readonly byHand?: RecordedAction;
  readonly deadlineAt: Date | null;
  readonly failure: Failure | null;
  /** Payloads are absent unless requested. */
  readonly input?: Payload | null;
  readonly output?: Payload | null;
  readonly heartbeat?: Payload | null;
}

/** Which events a wait is for: `awaits` of a step of kind EVENT, as JSON. */
export interface EventWait {
  readonly namespace: string;
  readonly name: string;
  /** Absent: events with any key, or none. */
  readonly key?: string;
  /** Events published this long before the beginning of the wait count. At most one of the two is given. */
  readonly lookBackMs?: number;
  /** Events published from this time on count: ISO 8601. */
  readonly since?: string;
}

/** The latest attempt of a step as a replay needs it. */
export interface MemoEntry {
  readonly runId: string;
  readonly stepId: string;
  readonly seq: number;
  readonly kind: StepKind;
  readonly attemptNumber: number;
  readonly countedAttempt: number;
  readonly status: StepStatus;
  readonly output: Payload | null;
  readonly failure: Failure | null;
  readonly leaseToken: number;
  readonly eventSeq: number | null;
  /** Taken back by a run-level retry. */
  readonly isCut: boolean;
  readonly finishedAt: Date | null;
  readonly nextRetryAt: Date | null;
  readonly firesAt: Date | null;
  readonly heartbeat: Payload | null;
  /** What a step of kind UPDATE has received. */
  readonly update?: ReceivedUpdate;
}

/** An update that a step has received. */
export interface ReceivedUpdate {
  readonly name: string;
  readonly requestId: string;
  readonly sender: string;
  readonly answer: UpdateAnswerKind | null;
}

/** How an update was answered. */
export type UpdateAnswerKind = 'COMPLETED' | 'FAILED' | 'REFUSED';

/** A place in the order in which results are delivered to a run's code. */
export interface EventPlace {
  readonly leaseToken: number;
  readonly eventSeq: number;
}

export interface Worker {
  readonly workerId: string;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly workflowTypes: readonly string[];
  readonly build: string;
  readonly identity: string;
  readonly slots: number;
  readonly leaseMs: number;
  readonly status: WorkerStatus;
  readonly registeredAt: Date;
  readonly lastSeenAt: Date;
}

/** What fences a write: the run and the lease token of the writer. */
export interface LeaseRef {
  readonly namespace: string;
  readonly runId: string;
  readonly leaseToken: number;
}

/** Refused by the fence; nothing was changed. */
export type FenceOutcome = { readonly kind: 'run_not_found' } | { readonly kind: 'lease_lost' };

/** Lost workers in a row after which a run is a suspect, as in the column `suspect`; see decision 0014. */
export const SUSPECT_LOSSES = 2;

/** The server's own limit for timers and timeouts: 10 years, in ms. */
export const MAX_DELAY_MS = 10 * 365 * 24 * 3_600_000;

/** A task queue of a namespace: what a wake-up names. */
export interface QueueRef {
  readonly namespace: string;
  readonly taskQueue: string;
}
