/** The commands of the transitions and the closed set of outcomes that each may have. */
import type {
  AwaitedKind,
  EventPlace,
  Failure,
  FenceOutcome,
  LeaseRef,
  MemoEntry,
  ParentClose,
  Payload,
  QueueRef,
  ReceivedUpdate,
  Run,
  RunStatus,
  StepKind,
  StepStatus,
  WorkerStatus,
} from './model.js';

export type WorkflowIdReusePolicy = 'ALLOW' | 'ALLOW_IF_FAILED' | 'REJECT' | 'TERMINATE_EXISTING';

export interface StartRun {
  /** UUIDv7. A fresh request id that is a UUIDv7 is hashed into it, so the primary key refuses a repeat. */
  readonly runId: string;
  readonly namespace: string;
  readonly workflowId: string;
  readonly workflowType: string;
  readonly taskQueue: string;
  readonly input: Payload | null;
  /** Null when there is none, or when it is hashed into the run id. */
  readonly requestId: string | null;
  /** The run id that an earlier start with the same request id would have; see `startIdentity`. */
  readonly freshRunId?: string | null;
  readonly priority: number;
  readonly build: string;
  readonly reusePolicy: WorkflowIdReusePolicy;
  readonly startDelayMs: number;
  /** 0: none. */
  readonly runTimeoutMs: number;
  /** 0: none. */
  readonly executionTimeoutMs: number;
  /** Until a worker first claims it, from when it may be claimed. Absent or 0: none. */
  readonly startTimeoutMs?: number;
  /** From the start to the end of the run and of all runs that continue it. Absent or 0: none. */
  readonly chainTimeoutMs?: number;
  readonly maxLostLeases: number;
}
/** `claim`: the run is already leased, to the slot that was given for it. */
export type StartRunOutcome =
  | { readonly kind: 'started'; readonly runId: string; readonly delayed: boolean; readonly claim: ClaimedRun | null }
  /** `workflowId`: that of the run; with equal request ids it may differ from the command's. */
  | { readonly kind: 'existing'; readonly runId: string; readonly workflowId: string; readonly status: RunStatus }
  | { readonly kind: 'already_exists'; readonly runId: string; readonly status: RunStatus }
  | { readonly kind: 'namespace_not_found' };

/** One free slot of a worker. */
export interface ClaimSlot {
  readonly workerId: string;
}
/** A free slot for a run that is about to start. */
export interface StartSlot extends ClaimSlot {
  /** As the worker registered it; when it has changed meanwhile, the slot is not used. */
  readonly leaseMs: number;
}
/** Slots that may be served together: same namespace, queue and types. */
export interface ClaimRuns {
  readonly namespace: string;
  readonly taskQueue: string;
  readonly workflowTypes: readonly string[];
  readonly slots: readonly ClaimSlot[];
}
/** What a worker needs to execute a run. */
export type RunToExecute = Pick<
  Run,
  | 'runId'
  | 'namespace'
  | 'workflowId'
  | 'workflowType'
  | 'build'
  | 'leaseToken'
  | 'attempt'
  | 'retries'
  | 'lostLeases'
  | 'cancelRequestedAt'
  | 'compensation'
  | 'createdAt'
  | 'startedAt'
  | 'runDeadlineAt'
  | 'executionDeadlineAt'
> & { readonly input: Payload | null; readonly cancelObserved: EventPlace | null };
export interface ClaimedRun {
  readonly run: RunToExecute;
  readonly leaseMs: number;
  /** The database's time at the claim. */
  readonly now: Date;
  /** There are more outcomes from outside to take. */
  readonly hasArrivals: boolean;
  /** Taken with the claim, for a worker that continues without a replay; a replay finds them in the memo. */
  readonly arrivals: readonly MemoEntry[];
  readonly memo: readonly MemoEntry[];
  readonly nextMemoCursor: MemoCursor | null;
}
/** Where a memo page ended. */
export interface MemoCursor {
  readonly entries: number;
  readonly bytes: number;
}
export type ClaimOutcome =
  | { readonly kind: 'claimed'; readonly claim: ClaimedRun }
  | { readonly kind: 'empty' }
  | { readonly kind: 'worker_not_registered' }
  | { readonly kind: 'worker_draining' };

export interface BeginStep extends LeaseRef {
  readonly stepId: string;
  readonly seq: number;
  readonly stepKind: StepKind;
  readonly attemptNumber: number;
  readonly countedAttempt: number;
  readonly maxCountedAttempts: number;
  /** 0: none. The server adds a grace for the worker's own timer. */
  readonly timeoutMs: number;
  readonly input: Payload | null;
  readonly uncancellable: boolean;
}
/** Recorded with another kind or position. */
export interface StepMismatch {
  readonly kind: 'step_mismatch';
  readonly recordedKind: StepKind;
  readonly recordedSeq: number;
}
/** A person has given the step its outcome, which waits to be taken, or was taken. */
export interface EndedByHand {
  readonly kind: 'ended_by_hand';
}
/** The attempt is not open, or not the one that may come next. */
export interface WrongAttempt {
  readonly kind: 'wrong_attempt';
  readonly latestAttempt: number;
  readonly latestStatus: string;
}
export type BeginStepOutcome =
  | FenceOutcome
  | EndedByHand
  | StepMismatch
  | WrongAttempt
  | { readonly kind: 'cancel_requested' | 'paused' }
  | { readonly kind: 'begun' | 'already_begun'; readonly startedAt: Date };

export interface CompleteStep extends LeaseRef {
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly output: Payload | null;
  readonly eventSeq: number;
}
export type CompleteStepOutcome =
  | FenceOutcome
  | EndedByHand
  | WrongAttempt
  | { readonly kind: 'step_not_found' }
  | { readonly kind: 'not_due'; readonly remainingMs: number }
  | {
      readonly kind: 'completed' | 'already_completed';
      readonly finishedAt: Date;
      readonly cancelRequested: boolean;
    };

/** An attempt that begins and completes at once. */
export interface RecordStep extends LeaseRef {
  readonly stepId: string;
  readonly seq: number;
  readonly stepKind: StepKind;
  readonly attemptNumber: number;
  readonly countedAttempt: number;
  readonly maxCountedAttempts: number;
  readonly uncancellable: boolean;
  readonly output: Payload | null;
  readonly eventSeq: number;
}
export type RecordStepOutcome =
  | FenceOutcome
  | EndedByHand
  | StepMismatch
  | WrongAttempt
  | { readonly kind: 'cancel_requested' | 'paused' }
  | { readonly kind: 'recorded' | 'already_recorded'; readonly finishedAt: Date; readonly cancelRequested: boolean };

export interface FailStep extends LeaseRef {
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly failure: Failure;
  /** Null: no other attempt follows. */
  readonly retryAfterMs: number | null;
  /** 0 when another attempt follows. */
  readonly eventSeq: number;
}
export type FailStepOutcome =
  | FenceOutcome
  | EndedByHand
  | WrongAttempt
  | { readonly kind: 'step_not_found' }
  | {
      readonly kind: 'failed' | 'already_failed';
      readonly finishedAt: Date;
      readonly nextRetryAt: Date | null;
      readonly cancelRequested: boolean;
    };

export interface ScheduleSleep extends LeaseRef {
  readonly stepId: string;
  readonly seq: number;
  /** Exactly one of the two is set. */
  readonly durationMs: number | null;
  readonly until: Date | null;
  readonly uncancellable: boolean;
  readonly attemptNumber: number;
}
export type ScheduleSleepOutcome =
  | FenceOutcome
  | StepMismatch
  | WrongAttempt
  | { readonly kind: 'cancel_requested' | 'paused' }
  | {
      readonly kind: 'scheduled' | 'already_scheduled';
      readonly firesAt: Date;
      readonly remainingMs: number;
      readonly attemptNumber: number;
    };

/** The final outcome of a step, recorded without executing its body. */
export interface SettleStep extends LeaseRef {
  readonly stepId: string;
  readonly seq: number;
  readonly stepKind: StepKind;
  /** The latest attempt; 0 when none is recorded. */
  readonly attemptNumber: number;
  /** CANCELLED by the cancel request; otherwise the recorded outcome, which is final. */
  readonly status: 'CANCELLED' | 'FAILED' | 'COMPLETED';
  readonly eventSeq: number;
}
export type SettleStepOutcome =
  | FenceOutcome
  | StepMismatch
  | WrongAttempt
  /** CANCELLED without a cancel request. */
  | { readonly kind: 'cancel_not_requested' }
  /** CANCELLED came too late: an outcome from outside waits to be taken. */
  | { readonly kind: 'arrived' }
  | { readonly kind: 'settled' | 'already_settled'; readonly finishedAt: Date };

/** The run's code learns of the cancel request. */
export interface ObserveCancel extends LeaseRef {
  readonly eventSeq: number;
}
export type ObserveCancelOutcome =
  | FenceOutcome
  | { readonly kind: 'cancel_not_requested' }
  | { readonly kind: 'observed' | 'already_observed' };

/** A step that waits for something from outside begins. */
export interface AwaitStep extends LeaseRef {
  readonly stepId: string;
  readonly seq: number;
  readonly stepKind: AwaitedKind;
  readonly attemptNumber: number;
  /** What it waits for: the name of a signal, the id of a promise, an `EventWait` as JSON; empty for an update, of any name. */
  readonly awaits: string;
  /** 0: ends at once when nothing is there; null: waits without a limit. */
  readonly timeoutMs: number | null;
  /** The place of the outcome, when there is one already. */
  readonly eventSeq: number;
  readonly uncancellable: boolean;
}
export type AwaitStepOutcome =
  | FenceOutcome
  | StepMismatch
  | WrongAttempt
  | { readonly kind: 'cancel_requested' | 'paused' }
  /** `remainingMs`: until its timeout; null: it has none. */
  | { readonly kind: 'waiting'; readonly attemptNumber: number; readonly remainingMs: number | null }
  | ({ readonly kind: 'arrived'; readonly attemptNumber: number } & ArrivedOutcome);
export interface ArrivedOutcome {
  readonly status: StepStatus;
  readonly output: Payload | null;
  readonly failure: Failure | null;
  readonly finishedAt: Date;
  /** What a step of kind UPDATE has received. */
  readonly update?: ReceivedUpdate;
}

/** A step of a run starts another run, and waits for its end. */
export interface StartChild extends LeaseRef {
  readonly stepId: string;
  readonly seq: number;
  readonly attemptNumber: number;
  /** The place of the outcome, when the child cannot be started. */
  readonly eventSeq: number;
  readonly uncancellable: boolean;
  /** UUIDv7, used when the step starts its child now. */
  readonly childRunId: string;
  /** Null: `<workflow id of the parent>/<step id>`. */
  readonly workflowId: string | null;
  readonly workflowType: string;
  /** Null: that of the parent. */
  readonly taskQueue: string | null;
  /** Null: that of the parent. */
  readonly priority: number | null;
  /** Null: that of the parent. */
  readonly build: string | null;
  readonly reusePolicy: Exclude<WorkflowIdReusePolicy, 'TERMINATE_EXISTING'>;
  readonly parentClose: ParentClose;
  readonly startDelayMs: number;
  /** 0: none. */
  readonly runTimeoutMs: number;
  /** 0: none. */
  readonly executionTimeoutMs: number;
  /** As in {@link StartRun}. */
  readonly startTimeoutMs?: number;
  /** As in {@link StartRun}. */
  readonly chainTimeoutMs?: number;
  readonly maxLostLeases: number;
  readonly input: Payload | null;
}
export type StartChildOutcome =
  | FenceOutcome
  | StepMismatch
  | WrongAttempt
  | { readonly kind: 'cancel_requested' | 'paused' }
  | {
      readonly kind: 'started';
      readonly attemptNumber: number;
      readonly childRunId: string;
      readonly taskQueue: string;
    }
  /** Started by an earlier call. */
  | { readonly kind: 'waiting'; readonly attemptNumber: number; readonly childRunId: string }
  /** It could not be started, or a repeat finds the outcome recorded with its place. */
  | ({ readonly kind: 'arrived'; readonly attemptNumber: number; readonly childRunId: string | null } & ArrivedOutcome);

/** The worker takes what has arrived from outside. */
export interface TakeArrivals extends LeaseRef {
  /** The place of all outcomes that are taken. */
  readonly eventSeq: number;
  /** Waits whose timeout has passed by the worker's clock. */
  readonly dueStepIds: readonly string[];
}
export type TakeArrivalsOutcome =
  | FenceOutcome
  | {
      readonly kind: 'taken';
      /** In the order in which they are delivered. */
      readonly arrivals: readonly MemoEntry[];
      /** More have arrived than fit an answer. */
      readonly hasMore: boolean;
      /** Of `dueStepIds`: by the database's clock they are not due. */
      readonly notDue: readonly { readonly stepId: string; readonly remainingMs: number }[];
    };

export interface Wait {
  readonly stepId: string;
  /** ARRIVAL: a step of an awaited kind, for its timeout. */
  readonly on: 'TIMER' | 'RETRY' | 'ARRIVAL';
}
export interface SuspendRun extends LeaseRef {
  readonly waits: readonly Wait[];
  /** The run wakes after this many arrivals; 0: it waits for none. */
  readonly arrivalsAwaited: number;
  /** The worker keeps the run in memory: when it claims the run next, it needs no memo. */
  readonly isKept: boolean;
  /** Above 1: it also wakes when this many children have ended, or a while after the first of them has. */
  readonly childrenAwaited?: number;
}
/** The worker that keeps a suspended run in memory, and where it polls for the run. */
export interface Keeper {
  readonly workerId: string;
  readonly taskQueue: string;
  readonly workflowType: string;
}
export type SuspendRunOutcome =
  | FenceOutcome
  | {
      readonly kind: 'suspended' | 'already_suspended';
      readonly wakeAt: Date | null;
      /** By the database's clock. */
      readonly wakeInMs: number | null;
      /** Null also for a run that waits for time alone, and when the call is a repeat. */
      readonly keeper: Keeper | null;
    }
  | {
      readonly kind: 'not_suspended';
      readonly readyStepIds: readonly string[];
      readonly cancelRequested: boolean;
      readonly hasArrivals: boolean;
    }
  | { readonly kind: 'unknown_wait'; readonly stepIds: readonly string[] };

/** Who is affected by the end of a run; absent when nobody is. */
export interface Relatives {
  /** A parent is to be told. */
  readonly hasParent: boolean;
  /** Children are to be closed. */
  readonly hasChildren: boolean;
}

export type EndRun = LeaseRef &
  (
    | { readonly end: 'COMPLETED'; readonly output: Payload | null; readonly hasOpenSteps: boolean }
    /** `cut`: what a retry of the ended run executes again; null: not known. */
    | { readonly end: 'FAILED'; readonly failure: Failure; readonly cut?: MemoCut | null }
    | { readonly end: 'CANCELLED'; readonly cut?: MemoCut | null }
  );
export type EndRunOutcome =
  | FenceOutcome
  /** CANCELLED without a cancel request. */
  | { readonly kind: 'cancel_not_requested' }
  | { readonly kind: 'ended'; readonly relatives?: Relatives }
  | { readonly kind: 'already_ended' };

/** The last result of a run and its end, of one run under one lease. */
export interface EndRunWithStep {
  readonly step: RecordStep;
  readonly end: Extract<EndRun, { readonly end: 'COMPLETED' }>;
}
export type EndRunWithStepOutcome =
  | EndRunOutcome
  | Exclude<RecordStepOutcome, { readonly kind: 'recorded' | 'already_recorded' }>;

export interface RetryRunAttempt extends LeaseRef {
  readonly failure: Failure;
  readonly retryAfterMs: number;
  /** Null: the memo stays as it is. */
  readonly cut: MemoCut | null;
}
/** What a run-level retry takes back. */
export interface MemoCut {
  /** Failures delivered here or later are executed again. */
  readonly from: EventPlace;
  /** Steps after this position are taken back. */
  readonly seq: number;
}
export type RetryRunAttemptOutcome =
  | FenceOutcome
  /** `delayed`: not claimable yet; it is at once when a cancel is requested. */
  | {
      readonly kind: 'retrying';
      readonly taskQueue: string;
      readonly delayed: boolean;
      /** It has started children, which may be children of steps that were cut. */
      readonly hasChildren?: true;
    }
  | { readonly kind: 'already_retrying' };

export interface ReleaseRun extends LeaseRef {
  readonly delayMs: number;
  readonly reason: string;
}
export type ReleaseRunOutcome =
  | FenceOutcome
  | { readonly kind: 'released' | 'already_released'; readonly taskQueue: string };

export interface RenewLease extends LeaseRef {}
export type RenewLeaseOutcome =
  | FenceOutcome
  | {
      readonly kind: 'renewed';
      readonly cancelRequested: boolean;
      readonly hasArrivals: boolean;
      readonly isPaused: boolean;
    };

export interface RecordStepHeartbeat extends LeaseRef {
  readonly stepId: string;
  readonly attemptNumber: number;
  readonly detail: Payload;
}
export type RecordStepHeartbeatOutcome = { readonly kind: 'recorded' | 'ignored' };

export interface CancelRun {
  readonly namespace: string;
  readonly runId: string;
  readonly reason: string;
}
export interface WrongRunState {
  readonly kind: 'wrong_state';
  readonly status: RunStatus;
}
export type CancelRunOutcome =
  | { readonly kind: 'run_not_found' }
  | WrongRunState
  | {
      readonly kind: 'cancelled' | 'requested' | 'already_requested';
      readonly status: RunStatus;
      readonly taskQueue: string;
      readonly holder: RunHolder | null;
      readonly relatives?: Relatives;
    };

/** The worker that holds a run, so that it gets a notice at once. */
export interface RunHolder {
  readonly workerId: string;
  readonly leaseToken: number;
}

export interface TerminateRun {
  readonly namespace: string;
  readonly runId: string;
  readonly reason: string;
}
export type TerminateRunOutcome =
  | { readonly kind: 'run_not_found' }
  | WrongRunState
  /** `holder`: the worker whose lease ended with it. */
  | { readonly kind: 'terminated'; readonly holder: RunHolder | null; readonly relatives?: Relatives }
  | { readonly kind: 'already_terminated' };

/** What a person does to a run: recorded with it. */
export interface RunAction {
  readonly namespace: string;
  readonly runId: string;
  /** Who it is, for people. */
  readonly actor: string;
  readonly reason: string;
  /** A repeat has the same one; null: it is not recognised. */
  readonly requestId: string | null;
}
export type RetryRun = RunAction;
export type RetryRunOutcome =
  | { readonly kind: 'run_not_found' }
  /** The run is open, or has a result. */
  | WrongRunState
  /** What the run has done is undone. */
  | { readonly kind: 'compensated'; readonly status: RunStatus }
  /** Another run with its workflow id is open. */
  | { readonly kind: 'workflow_id_taken'; readonly runId: string }
  | {
      readonly kind: 'retried';
      readonly queue: QueueRef;
      readonly workflowType: string;
      /** Null: the run has no run timeout. */
      readonly expiresInMs: number | null;
    }
  /** By an earlier call with the same request id. */
  | { readonly kind: 'already_retried'; readonly status: RunStatus };

export type DismissRun = RunAction;
export type DismissRunOutcome =
  | { readonly kind: 'run_not_found' }
  /** The run is not FAILED. */
  | WrongRunState
  | { readonly kind: 'dismissed' }
  /** Also by an earlier call with the same request id. */
  | { readonly kind: 'already_dismissed' };

export interface RestartRun extends RunAction {
  /** Of the new run; null: that of the origin. */
  readonly workflowId: string | null;
}
export type RestartRunOutcome =
  | { readonly kind: 'run_not_found' }
  /** An open run has the workflow id. */
  | { readonly kind: 'workflow_id_taken'; readonly runId: string; readonly workflowId: string }
  | {
      readonly kind: 'restarted';
      readonly runId: string;
      readonly workflowId: string;
      readonly queue: QueueRef;
      readonly workflowType: string;
      /** Null: the run has no run timeout. */
      readonly expiresInMs: number | null;
    }
  /** By an earlier call with the same request id. */
  | { readonly kind: 'already_restarted'; readonly runId: string; readonly workflowId: string };

export interface ContinueRun extends LeaseRef {
  readonly input: Payload | null;
  /** Null: as before; so are the others. */
  readonly taskQueue: string | null;
  readonly priority: number | null;
  readonly startDelayMs: number;
  /** 0: none. */
  readonly runTimeoutMs: number | null;
  /** 0: none. */
  readonly executionTimeoutMs: number | null;
  readonly hasOpenSteps: boolean;
}
export type ContinueRunOutcome =
  | FenceOutcome
  | {
      readonly kind: 'continued';
      readonly nextRunId: string;
      readonly queue: QueueRef;
      readonly workflowType: string;
      /** Null: the successor has no run timeout. */
      readonly expiresInMs: number | null;
      readonly hasChildren: boolean;
    }
  | { readonly kind: 'already_continued'; readonly nextRunId: string };

export interface RegisterWorker {
  readonly workerId: string;
  readonly namespace: string;
  readonly taskQueue: string;
  readonly workflowTypes: readonly string[];
  readonly build: string;
  readonly identity: string;
  readonly slots: number;
  readonly leaseMs: number;
}
export type RegisterWorkerOutcome =
  | { readonly kind: 'registered' }
  | { readonly kind: 'namespace_not_found' }
  /** The id belongs to another namespace. */
  | { readonly kind: 'worker_not_found' };

export interface WorkerRef {
  readonly namespace: string;
  readonly workerId: string;
}
export type TouchWorkerOutcome =
  | { readonly kind: 'alive'; readonly status: WorkerStatus }
  | { readonly kind: 'not_registered' };
export type DrainWorkerOutcome = { readonly kind: 'worker_not_found' } | { readonly kind: 'draining' | 'offline' };
export type DeregisterWorkerOutcome = { readonly kind: 'worker_not_found' } | { readonly kind: 'deregistered' };
