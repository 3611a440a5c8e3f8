import {
  type BeginStep,
  type BeginStepOutcome,
  beginSteps,
  type CancelRun,
  type CancelRunOutcome,
  type ClaimedRun,
  type CompleteStep,
  type CompleteStepOutcome,
  cancelRuns,
  completeSteps,
  type Database,
  DEFERRED,
  type Deferred,
  type FailStep,
  type FailStepOutcome,
  type FinishRun,
  type FinishRunOutcome,
  type FoundRun,
  failSteps,
  findRuns,
  finishRuns,
  type ObserveCancel,
  type ObserveCancelOutcome,
  observeCancels,
  type RecordStep,
  type RecordStepHeartbeat,
  type RecordStepHeartbeatOutcome,
  type RecordStepOutcome,
  type ReleaseRun,
  type ReleaseRunOutcome,
  type RenewLease,
  type RenewLeaseOutcome,
  type RetryRunAttempt,
  type RetryRunAttemptOutcome,
  type Run,
  type RunEnd,
  type RunHolder,
  type RunRef,
  readRunEnds,
  recordStepHeartbeats,
  recordSteps,
  releaseRuns,
  renewLeases,
  retryRunAttempts,
  type ScheduleSleep,
  type ScheduleSleepOutcome,
  type SettleStep,
  type SettleStepOutcome,
  type StartRun,
  type StartRunOutcome,
  type SuspendRun,
  type SuspendRunOutcome,
  scheduleSleeps,
  settleSteps,
  startRuns,
  suspendRuns,
  type TerminateRun,
  type TerminateRunOutcome,
  type TouchWorkerOutcome,
  terminateRuns,
  touchWorkers,
  type WorkerNotice,
  type WorkerRef,
} from '@perdure/store';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { Wakeups } from '../dispatch/wakeups.js';
import { Coalescer } from './coalescer.js';
import { RunOrder } from './run-order.js';

/** Submits one command; resolves with its outcome once it is committed. */
export type Submit<Command, Outcome> = (command: Command) => Promise<Outcome>;

/** All commands of the hot paths: those of all callers are written together. */
export interface Commands {
  readonly startRun: Submit<StartRun, StartRunOutcome>;
  readonly beginStep: Submit<BeginStep, BeginStepOutcome>;
  readonly completeStep: Submit<CompleteStep, CompleteStepOutcome>;
  readonly recordStep: Submit<RecordStep, RecordStepOutcome>;
  readonly failStep: Submit<FailStep, FailStepOutcome>;
  readonly settleStep: Submit<SettleStep, SettleStepOutcome>;
  readonly observeCancel: Submit<ObserveCancel, ObserveCancelOutcome>;
  readonly scheduleSleep: Submit<ScheduleSleep, ScheduleSleepOutcome>;
  readonly suspendRun: Submit<SuspendRun, SuspendRunOutcome>;
  readonly finishRun: Submit<FinishRun, FinishRunOutcome>;
  readonly retryRunAttempt: Submit<RetryRunAttempt, RetryRunAttemptOutcome>;
  readonly releaseRun: Submit<ReleaseRun, ReleaseRunOutcome>;
  readonly renewLease: Submit<RenewLease, RenewLeaseOutcome>;
  readonly recordStepHeartbeat: Submit<RecordStepHeartbeat, RecordStepHeartbeatOutcome>;
  readonly cancelRun: Submit<CancelRun, CancelRunOutcome>;
  readonly terminateRun: Submit<TerminateRun, TerminateRunOutcome>;
  readonly touchWorker: Submit<WorkerRef, TouchWorkerOutcome>;
  readonly findEnd: Submit<{ readonly namespace: string; readonly runId: string }, FoundRun | null>;
  readonly findRun: Submit<RunRef, Run | null>;
}

export interface CommandsOptions {
  readonly db: Database;
  readonly wakeups: Wakeups;
  readonly dispatcher: Dispatcher;
  /** Commands of one kind that may wait. */
  readonly maxQueued: number;
}

/** After a batch is committed, those who wait for what it changed are told. */
export function createCommands({ db, wakeups, dispatcher, maxQueued }: CommandsOptions): Commands {
  const coalescer = <Command, Outcome>(
    name: string,
    keyOf: (command: Command) => string,
    transition: (db: Database, commands: readonly Command[]) => Promise<readonly Outcome[]>,
    afterCommit?: (command: Command, outcome: Outcome) => void,
  ): Coalescer<Command, Outcome> =>
    new Coalescer<Command, Outcome>({
      name,
      keyOf,
      maxQueued,
      run: async (commands) => {
        const outcomes = await transition(db, commands);
        if (afterCommit !== undefined) {
          commands.forEach((command, index) => {
            afterCommit(command, outcomes[index] as Outcome);
          });
        }
        return outcomes;
      },
    });
  const coalesce = <Command, Outcome>(
    ...options: Parameters<typeof coalescer<Command, Outcome>>
  ): Submit<Command, Outcome> => {
    const kind = coalescer(...options);
    return (command) => kind.submit(command);
  };
  const byRun = (command: { readonly runId: string }) => command.runId;
  const order = new RunOrder();
  /** Commands of a worker about its run: those of one run are carried out in the order in which they came, over all kinds. */
  const ordered = <Command extends { readonly runId: string }, Outcome>(
    name: string,
    transition: (db: Database, commands: readonly Command[]) => Promise<readonly Outcome[]>,
    afterCommit?: (command: Command, outcome: Outcome) => void,
  ): Submit<Command, Outcome> => {
    const kind = coalescer<Command, Outcome>(name, byRun, transition, afterCommit);
    const enqueue = kind.enqueue.bind(kind);
    return (command) => order.submit(command.runId, enqueue, command);
  };

  /** Runs that start while a worker waits for them are leased with the statement that inserts them. */
  const startOrHandOut = async (starts: readonly StartRun[]): Promise<StartRunOutcome[]> => {
    const reservation = dispatcher.reserve(starts);
    // Before the commit: from then on anyone may end them.
    for (const start of starts) wakeups.starting(start);
    let claims: (ClaimedRun | null)[] = [];
    try {
      const outcomes = await startRuns(db, starts, reservation.slots);
      claims = outcomes.map((outcome) => (outcome.kind === 'started' ? outcome.claim : null));
      starts.forEach(({ runId }, index) => {
        if (outcomes[index]?.kind !== 'started') wakeups.notStarted(runId);
      });
      return outcomes;
    } catch (error) {
      for (const { runId } of starts) wakeups.notStarted(runId);
      throw error;
    } finally {
      reservation.settle(claims);
    }
  };

  return {
    startRun: coalesce<StartRun, StartRunOutcome>(
      'StartWorkflow',
      byRun,
      (_, starts) => startOrHandOut(starts),
      (command, outcome) => {
        if (outcome.kind !== 'started') return;
        if (outcome.delayed) wakeups.wakesIn(command.startDelayMs);
        else if (outcome.claim === null) wakeups.runnable(command, 1, command.workflowType);
        if (command.runTimeoutMs > 0) wakeups.expiresIn(command.runTimeoutMs);
      },
    ),
    beginStep: ordered('BeginStep', beginSteps, (command, outcome) => {
      if (outcome.kind === 'begun' && command.timeoutMs > 0) wakeups.expiresIn(command.timeoutMs);
    }),
    completeStep: ordered('CompleteStep', completeSteps),
    recordStep: ordered('CompleteStep', recordSteps),
    failStep: ordered('FailStep', failSteps),
    settleStep: ordered('SettleStep', settleSteps),
    observeCancel: ordered('ObserveCancel', observeCancels),
    scheduleSleep: ordered('ScheduleSleep', scheduleSleeps),
    suspendRun: ordered('SuspendRun', suspendRuns, (_, outcome) => {
      if (outcome.kind === 'suspended' && outcome.wakeInMs !== null) wakeups.wakesIn(outcome.wakeInMs);
    }),
    finishRun: ordered('CompleteWorkflow', finishRuns, (command, outcome) => {
      if (outcome.kind === 'finished') wakeups.ended(command.runId, endOf(command));
      // Whoever wrote it first may not have come to tell.
      else if (outcome.kind === 'already_finished') wakeups.ended(command.runId);
    }),
    retryRunAttempt: ordered('FailWorkflow', retryRunAttempts, (command, outcome) => {
      if (outcome.kind === 'retrying') wakeups.wakesIn(command.retryAfterMs);
    }),
    releaseRun: ordered('ReleaseRun', releaseRuns, (command, outcome) => {
      if (outcome.kind !== 'released') return;
      if (command.delayMs > 0) wakeups.wakesIn(command.delayMs);
      else wakeups.runnable({ namespace: command.namespace, taskQueue: outcome.taskQueue }, 1);
    }),
    renewLease: coalesce('RecordHeartbeat', byRun, renewLeases),
    recordStepHeartbeat: coalesce('RecordHeartbeat', byRun, recordStepHeartbeats),
    cancelRun: coalesce('CancelRun', byRun, cancelRuns, (command, outcome) => {
      if (outcome.kind === 'cancelled') wakeups.ended(command.runId);
      if (outcome.kind === 'requested' && outcome.holder !== null) {
        wakeups.notice(leaseNotice('cancel_requested', command, outcome.holder));
      }
      if (outcome.kind === 'requested' && outcome.status === 'PENDING') {
        wakeups.runnable({ namespace: command.namespace, taskQueue: outcome.taskQueue }, 1);
      }
    }),
    terminateRun: coalesce('TerminateRun', byRun, terminateRuns, (command, outcome) => {
      if (outcome.kind !== 'terminated') return;
      wakeups.ended(command.runId);
      if (outcome.holder !== null) wakeups.notice(leaseNotice('lease_lost', command, outcome.holder));
    }),
    touchWorker: coalesce('RecordHeartbeat', (ref: WorkerRef) => ref.workerId, touchWorkers),
    findEnd: untilRead(
      coalesce('AwaitRun', byRun, (reader, runs: readonly { readonly namespace: string; readonly runId: string }[]) =>
        readRunEnds(reader, runs),
      ),
    ),
    findRun: untilRead(
      coalesce(
        'GetRun',
        (ref: RunRef) => ref.runId ?? ref.workflowId ?? '',
        (reader, refs) => findRuns(reader, refs),
      ),
    ),
  };
}

/** A batch of reads is bounded in bytes: what did not fit goes into a later one. */
function untilRead<Command, Outcome>(submit: Submit<Command, Outcome | Deferred>): Submit<Command, Outcome> {
  return async (command) => {
    for (;;) {
      const outcome = await submit(command);
      if (outcome !== DEFERRED) return outcome as Outcome;
    }
  };
}

/** How a run ended, as far as the command tells. */
function endOf(command: FinishRun): RunEnd | undefined {
  const none = { output: null, failure: null, cancelReason: null };
  switch (command.end) {
    case 'COMPLETED':
      return { ...none, status: 'COMPLETED', output: command.output };
    case 'FAILED':
      return { ...none, status: 'FAILED', failure: command.failure };
    case 'CANCELLED':
      return undefined;
  }
}

function leaseNotice(
  kind: 'cancel_requested' | 'lease_lost',
  { namespace, runId }: { readonly namespace: string; readonly runId: string },
  { workerId, leaseToken }: RunHolder,
): WorkerNotice {
  return { kind, namespace, workerId, runId, leaseToken };
}
