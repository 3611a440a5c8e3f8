/**
 * The commands of the hot paths: one row per kind. A new transition is one row here, with a function of after-commit.ts if
 * anybody is notified of it.
 */
import {
  answerUpdates,
  awaitSteps,
  beginCompensations,
  beginSteps,
  cancelRuns,
  closeChildren,
  completeSteps,
  continueRuns,
  type Database,
  deleteRuns,
  dismissRuns,
  endRuns,
  endRunsWithStep,
  endSteps,
  failSteps,
  findAnswers,
  findRuns,
  forkRuns,
  holdRuns,
  type KeeperSlots,
  observeCancels,
  pauseRuns,
  publishEvents,
  type RunRef,
  readRunEnds,
  recordStepHeartbeats,
  recordSteps,
  releaseRuns,
  renewLeases,
  restartRuns,
  resumeRuns,
  retryRunAttempts,
  retryRuns,
  scheduleSleeps,
  sendSignals,
  sendUpdates,
  setRunStates,
  settlePromises,
  settleSteps,
  signalWithStarts,
  startChildren,
  suspendRuns,
  takeArrivals,
  tellParents,
  terminateRuns,
  touchWorkers,
  type UpdateRef,
} from '@perdure/store';
import * as after from './after-commit.js';
import { failureBytes, payloadBytes } from './command-bytes.js';
import { type Hands, startLeased } from './leased-starts.js';

export interface CommandKind<Command, Outcome> {
  /** Name of the RPC, for messages. */
  readonly name: string;
  /** Commands with equal keys are carried out in the order of their arrival. */
  readonly key: (command: Command) => string;
  /** True for the commands of a worker about a run that it holds: their order holds over all such kinds. */
  readonly ordered?: true;
  /** Bytes of the values of a command; for kinds that have any. */
  readonly bytes?: (command: Command) => number;
  readonly transition: (db: Database, commands: readonly Command[], hands: Hands) => Promise<readonly Outcome[]>;
  readonly effects?: after.EffectsOf<Command, Outcome>;
}

const kind = <Command, Outcome>(row: CommandKind<Command, Outcome>) => row;
/** The whole outcome of a batch stands with its first command: it is about other runs than those of the commands. */
const toRelatives =
  <Affected>(act: (db: Database, runIds: readonly string[], keepers: KeeperSlots) => Promise<readonly Affected[]>) =>
  async (
    db: Database,
    commands: readonly { readonly runId: string }[],
    hands: Hands,
  ): Promise<readonly (readonly Affected[])[]> => {
    const affected = await act(
      db,
      commands.map(({ runId }) => runId),
      keeperSlots(hands),
    );
    return commands.map((_, index) => (index === 0 ? affected : []));
  };
/** Slots of the workers that keep the runs which a statement wakes. */
const keeperSlots = ({ dispatcher }: Hands): KeeperSlots => ({
  reserve: (runIds) => dispatcher.reserveKeepers(runIds),
});
const byRun = (command: { readonly runId: string }) => command.runId;

export const commandTable = {
  startRun: kind({
    name: 'StartWorkflow',
    key: byRun,
    bytes: (start) => payloadBytes(start.input),
    transition: startLeased,
    effects: after.afterStart,
  }),
  beginStep: kind({
    name: 'BeginStep',
    key: byRun,
    ordered: true,
    bytes: (step) => payloadBytes(step.input),
    transition: beginSteps,
    effects: after.afterBeginStep,
  }),
  completeStep: kind({
    name: 'CompleteStep',
    key: byRun,
    ordered: true,
    bytes: (step) => payloadBytes(step.output),
    transition: completeSteps,
  }),
  recordStep: kind({
    name: 'CompleteStep',
    key: byRun,
    ordered: true,
    bytes: (step) => payloadBytes(step.output),
    transition: recordSteps,
  }),
  failStep: kind({
    name: 'FailStep',
    key: byRun,
    ordered: true,
    bytes: (step) => failureBytes(step.failure),
    transition: failSteps,
  }),
  settleStep: kind({
    name: 'SettleStep',
    key: byRun,
    ordered: true,
    transition: settleSteps,
    effects: after.afterSettle,
  }),
  beginCompensation: kind({ name: 'BeginCompensation', key: byRun, ordered: true, transition: beginCompensations }),
  observeCancel: kind({ name: 'ObserveCancel', key: byRun, ordered: true, transition: observeCancels }),
  scheduleSleep: kind({ name: 'ScheduleSleep', key: byRun, ordered: true, transition: scheduleSleeps }),
  awaitStep: kind({ name: 'AwaitStep', key: byRun, ordered: true, transition: awaitSteps }),
  takeArrivals: kind({ name: 'TakeArrivals', key: byRun, ordered: true, transition: takeArrivals }),
  answerUpdate: kind({
    name: 'AnswerUpdate',
    key: byRun,
    ordered: true,
    bytes: ({ answer }) => (answer.kind === 'COMPLETED' ? payloadBytes(answer.output) : failureBytes(answer.failure)),
    transition: answerUpdates,
    effects: after.afterAnswer,
  }),
  setRunState: kind({
    name: 'SetRunState',
    key: byRun,
    bytes: (run) => payloadBytes(run.state),
    transition: setRunStates,
  }),
  startChild: kind({
    name: 'StartChildren',
    key: byRun,
    ordered: true,
    bytes: (child) => payloadBytes(child.input),
    transition: startChildren,
    effects: after.afterStartChild,
  }),
  suspendRun: kind({
    name: 'SuspendRun',
    key: byRun,
    ordered: true,
    bytes: (run) => run.waits.length * 64,
    transition: suspendRuns,
    effects: after.afterSuspend,
  }),
  endRun: kind({
    name: 'CompleteWorkflow',
    key: byRun,
    ordered: true,
    bytes: (run) =>
      run.end === 'COMPLETED' ? payloadBytes(run.output) : run.end === 'FAILED' ? failureBytes(run.failure) : 0,
    transition: endRuns,
    effects: after.afterEnd,
  }),
  endRunWithStep: kind({
    name: 'CompleteWorkflow',
    key: ({ end }) => end.runId,
    ordered: true,
    bytes: ({ step, end }) => payloadBytes(step.output) + payloadBytes(end.output),
    transition: endRunsWithStep,
    effects: after.afterEndWithStep,
  }),
  continueRun: kind({
    name: 'ContinueWorkflow',
    key: byRun,
    ordered: true,
    bytes: (run) => payloadBytes(run.input),
    transition: continueRuns,
    effects: after.afterContinue,
  }),
  retryRunAttempt: kind({
    name: 'FailWorkflow',
    key: byRun,
    ordered: true,
    bytes: (run) => failureBytes(run.failure),
    transition: retryRunAttempts,
    effects: after.afterRetry,
  }),
  releaseRun: kind({
    name: 'ReleaseRun',
    key: byRun,
    ordered: true,
    transition: releaseRuns,
    effects: after.afterRelease,
  }),
  holdRun: kind({
    name: 'HoldRun',
    key: byRun,
    ordered: true,
    bytes: (run) => failureBytes(run.failure),
    transition: holdRuns,
    effects: after.afterHold,
  }),
  renewLease: kind({ name: 'RecordHeartbeat', key: byRun, transition: renewLeases }),
  recordStepHeartbeat: kind({
    name: 'RecordHeartbeat',
    key: byRun,
    bytes: (step) => payloadBytes(step.detail),
    transition: recordStepHeartbeats,
  }),
  sendSignal: kind({
    name: 'SignalRun',
    key: byRun,
    bytes: (signal) => payloadBytes(signal.payload),
    transition: (db, signals, hands) => sendSignals(db, signals, keeperSlots(hands)),
    effects: after.afterSignal,
  }),
  sendUpdate: kind({
    name: 'UpdateRun',
    key: byRun,
    bytes: (update) => payloadBytes(update.payload),
    transition: (db, updates, hands) => sendUpdates(db, updates, keeperSlots(hands)),
    effects: after.afterUpdate,
  }),
  signalWithStart: kind({
    name: 'SignalWithStart',
    key: ({ start }) => `${start.namespace}\n${start.workflowId}`,
    bytes: ({ start, payload }) => payloadBytes(start.input) + payloadBytes(payload),
    transition: signalWithStarts,
    effects: after.afterSignalWithStart,
  }),
  publishEvent: kind({
    name: 'PublishEvent',
    key: (event) => event.eventId,
    bytes: (event) => payloadBytes(event.payload),
    transition: publishEvents,
    effects: after.afterPublish,
  }),
  settlePromise: kind({
    name: 'ResolvePromise',
    key: (promise) => promise.promiseId,
    bytes: ({ outcome }) => (outcome.kind === 'resolved' ? payloadBytes(outcome.value) : failureBytes(outcome.failure)),
    transition: settlePromises,
    effects: after.afterSettlePromise,
  }),
  cancelRun: kind({ name: 'CancelRun', key: byRun, transition: cancelRuns, effects: after.afterCancel }),
  terminateRun: kind({ name: 'TerminateRun', key: byRun, transition: terminateRuns, effects: after.afterTerminate }),
  retryRun: kind({ name: 'RetryRun', key: byRun, transition: retryRuns, effects: after.afterRetryRun }),
  restartRun: kind({ name: 'RestartRun', key: byRun, transition: restartRuns, effects: after.afterRestart }),
  forkRun: kind({
    name: 'ForkRun',
    key: byRun,
    bytes: ({ input }) => payloadBytes(input?.value ?? null),
    transition: forkRuns,
    effects: after.afterFork,
  }),
  dismissRun: kind({ name: 'DismissRun', key: byRun, transition: dismissRuns }),
  endStep: kind({
    name: 'EndStep',
    key: byRun,
    bytes: ({ outcome }) =>
      outcome.kind === 'COMPLETED'
        ? payloadBytes(outcome.output)
        : outcome.kind === 'FAILED'
          ? failureBytes(outcome.failure)
          : 0,
    transition: endSteps,
    effects: after.afterEndStep,
  }),
  pauseRun: kind({ name: 'PauseRun', key: byRun, transition: pauseRuns, effects: after.afterPause }),
  resumeRun: kind({ name: 'ResumeRun', key: byRun, transition: resumeRuns, effects: after.afterResume }),
  deleteRun: kind({ name: 'DeleteRun', key: byRun, transition: deleteRuns }),
  tellParent: kind({
    name: 'TellParent',
    key: byRun,
    transition: toRelatives(tellParents),
    effects: after.afterTell,
  }),
  closeChildren: kind({
    name: 'CloseChildren',
    key: byRun,
    transition: toRelatives(closeChildren),
    effects: after.afterClose,
  }),
  touchWorker: kind({ name: 'RecordHeartbeat', key: (worker) => worker.workerId, transition: touchWorkers }),
  findEnd: kind({
    name: 'AwaitRun',
    key: (run: { readonly namespace: string; readonly runId: string }) => run.runId,
    transition: (db, runs) => readRunEnds(db, runs),
  }),
  findAnswer: kind({
    name: 'UpdateRun',
    key: (update: UpdateRef) => `${update.runId}\n${update.requestId}`,
    transition: (db, updates) => findAnswers(db, updates),
  }),
  findRun: kind({
    name: 'GetRun',
    key: (ref: RunRef) => ref.runId ?? ref.workflowId ?? '',
    transition: (db, refs) => findRuns(db, refs),
  }),
};
