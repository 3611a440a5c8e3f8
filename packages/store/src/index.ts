export * from './commands.js';
export { type Database, type DatabaseOptions, openDatabase, type Reader } from './database/database.js';
export { DatabaseUnavailableError, DataError, StatementTimeoutError } from './database/errors.js';
export type { Listener } from './database/listener.js';
export { allStatements } from './database/statement.js';
export {
  DatabaseNotReadyError,
  type DatabaseProblem,
  databaseProblemOf,
  waitForDatabase,
} from './database/wait-for-database.js';
export * from './model.js';
export type { BulkAction, BulkOperation, BulkRefusal } from './reads/bulk-row.js';
export { chainEnd } from './reads/chain-end.js';
export {
  type FailureGroup,
  type FailureGroupPage,
  listFailureGroups,
  MAX_COUNTED_FAILURES,
} from './reads/dead-letters.js';
export { diagnose } from './reads/diagnose.js';
export { endedAmong } from './reads/ended-among.js';
export {
  answeredAmong,
  type FoundUpdate,
  findAnswers,
  type UpdateAnswer,
  type UpdateRef,
} from './reads/find-answers.js';
export { findRunState, findRuns } from './reads/find-runs.js';
export { listForks } from './reads/list-actions.js';
export { type BulkPage, bulkDueInMs, getBulkOperation, listBulkOperations } from './reads/list-bulk-operations.js';
export { listDispatchPauses } from './reads/list-dispatch-pauses.js';
export {
  type EventCursor,
  type EventFilter,
  type EventPage,
  listEvents,
  type StoredEvent,
} from './reads/list-events.js';
export { listNamespaces, namespaceExists } from './reads/list-namespaces.js';
export {
  getPromise,
  listPromises,
  PROMISE_STATES,
  type PromiseCursor,
  type PromisePage,
  type PromiseState,
  type StoredPromise,
} from './reads/list-promises.js';
export { listReapers } from './reads/list-reapers.js';
export { countRuns, listRuns } from './reads/list-runs.js';
export { listTaskQueues } from './reads/list-task-queues.js';
export { getRegistration, getWorker, listWorkers } from './reads/list-workers.js';
export { findMatchingRuns, MAX_SCANNED, type MatchingRuns } from './reads/matching-runs.js';
export { withSenders } from './reads/message-senders.js';
export * from './reads/queries.js';
export { readDatabaseFacts, schemaVersion } from './reads/read-database-facts.js';
export { DEFERRED, type Deferred } from './reads/read-limits.js';
export { type MemoPageLimits, readMemo, readMemoOf } from './reads/read-memo.js';
export { type FoundRun, readRunEnds } from './reads/read-run-ends.js';
export { readRunFacts } from './reads/read-run-facts.js';
export { type RunState, readRunState } from './reads/read-run-state.js';
export { type RunTreeNode, readRunTree } from './reads/read-run-tree.js';
export { getStepAttempt, listStepAttempts, readChangedSteps, readHistory } from './reads/read-steps.js';
export { readRunPauses } from './reads/run-pauses.js';
export { startIdentity } from './run-id.js';
export { LATEST_SCHEMA_VERSION, type MigrateOptions, type MigrateResult, migrate } from './schema/migrate.js';
export { clearSuspects } from './sweeps/clear-suspects.js';
export { expireRuns } from './sweeps/expire-runs.js';
export { expireSteps } from './sweeps/expire-steps.js';
export { forgetEvents } from './sweeps/forget-events.js';
export { unclosedParents, untoldChildren } from './sweeps/left-relatives.js';
export { nextExpiryMs, nextWakeMs } from './sweeps/next-due.js';
export { type Reclaimed, type ReclaimOptions, reclaimLeases } from './sweeps/reclaim-leases.js';
export { retireStaleWorkers } from './sweeps/retire-stale-workers.js';
export { wakeSleepers } from './sweeps/wake-sleepers.js';
export { INSTALL_TEST_CLOCK, moveTestClock } from './testing/test-clock.js';
export { createTestDatabase, type TestDatabase } from './testing/test-database.js';
export {
  type AwaitedRuns,
  openTestTime,
  type Standstill,
  type TestTime,
  type UnservedRuns,
} from './testing/test-time.js';
export { announceReaper, retireReaper } from './transitions/announce-reapers.js';
export { announceServer, retireServer } from './transitions/announce-servers.js';
export {
  type AdvancedBulk,
  advanceBulkOperation,
  BulkChunkError,
  noteBulkTrouble,
} from './transitions/bulk/advance-bulk-operation.js';
export type { BulkAct } from './transitions/bulk/bulk-acts.js';
export {
  type ControlBulkOperation,
  type ControlBulkOutcome,
  controlBulkOperation,
} from './transitions/bulk/control-bulk-operations.js';
export {
  findStartedBulkOperation,
  type StartBulkOperation,
  type StartedBulkOperation,
  startBulkOperation,
} from './transitions/bulk/start-bulk-operations.js';
export { type ClosedChild, closeChildren } from './transitions/children/close-children.js';
export { startChildren } from './transitions/children/start-children.js';
export { type ToldParent, tellParents } from './transitions/children/tell-parents.js';
export {
  type CreateNamespace,
  type CreateNamespaceOutcome,
  createNamespaces,
} from './transitions/create-namespaces.js';
export { type PublishEvent, type PublishEventOutcome, publishEvents } from './transitions/events/publish-events.js';
export { type Spread, spreadEvents } from './transitions/events/spread-events.js';
export type { ArrivalEffect, ReachedRun } from './transitions/parts/arrival-effect.js';
export {
  type PauseDispatch,
  type PauseDispatchOutcome,
  pauseDispatch,
  type ResumeDispatch,
  type ResumeDispatchOutcome,
  resumeDispatch,
} from './transitions/pause-dispatch.js';
export {
  type SettlePromise,
  type SettlePromiseOutcome,
  settlePromises,
} from './transitions/promises/settle-promises.js';
export { type BeginCompensationOutcome, beginCompensations } from './transitions/runs/begin-compensations.js';
export { cancelRuns } from './transitions/runs/cancel-runs.js';
export { claimRuns } from './transitions/runs/claim-runs.js';
export { continueRuns } from './transitions/runs/continue-runs.js';
export { type DeleteRun, type DeleteRunOutcome, deleteRuns } from './transitions/runs/delete-runs.js';
export { dismissRuns } from './transitions/runs/dismiss-runs.js';
export { endRuns } from './transitions/runs/end-runs.js';
export { endRunsWithStep } from './transitions/runs/end-runs-with-step.js';
export { type ForkRun, type ForkRunOutcome, forkRuns } from './transitions/runs/fork-runs.js';
export { type HoldRun, type HoldRunOutcome, holdRuns } from './transitions/runs/hold-runs.js';
export type { KeeperReservation, KeeperSlots } from './transitions/runs/lease-to-keepers.js';
export { observeCancels } from './transitions/runs/observe-cancels.js';
export { type PauseRun, type PauseRunOutcome, pauseRuns } from './transitions/runs/pause-runs.js';
export { releaseRuns } from './transitions/runs/release-runs.js';
export { renewLeases } from './transitions/runs/renew-leases.js';
export { restartRuns } from './transitions/runs/restart-runs.js';
export { type ResumeRun, type ResumeRunOutcome, resumeRuns } from './transitions/runs/resume-runs.js';
export { retryRunAttempts } from './transitions/runs/retry-run-attempts.js';
export { retryRuns } from './transitions/runs/retry-runs.js';
export { type SetRunState, type SetRunStateOutcome, setRunStates } from './transitions/runs/set-run-states.js';
export { isGuarded, startRuns } from './transitions/runs/start-runs.js';
export { suspendRuns } from './transitions/runs/suspend-runs.js';
export { terminateRuns } from './transitions/runs/terminate-runs.js';
export { type SendSignal, type SendSignalOutcome, sendSignals } from './transitions/signals/send-signals.js';
export {
  type SignalWithStart,
  type SignalWithStartOutcome,
  signalWithStarts,
} from './transitions/signals/signal-with-starts.js';
export { awaitSteps } from './transitions/steps/await-steps.js';
export { beginSteps } from './transitions/steps/begin-steps.js';
export { completeSteps } from './transitions/steps/complete-steps.js';
export { type EndStep, type EndStepOutcome, endSteps } from './transitions/steps/end-steps.js';
export { failSteps } from './transitions/steps/fail-steps.js';
export { recordStepHeartbeats } from './transitions/steps/record-step-heartbeats.js';
export { recordSteps } from './transitions/steps/record-steps.js';
export { scheduleSleeps } from './transitions/steps/schedule-sleeps.js';
export { settleSteps } from './transitions/steps/settle-steps.js';
export { takeArrivals } from './transitions/steps/take-arrivals.js';
export { type AnswerUpdate, type AnswerUpdateOutcome, answerUpdates } from './transitions/updates/answer-updates.js';
export { type SendUpdate, type SendUpdateOutcome, sendUpdates } from './transitions/updates/send-updates.js';
export { registerWorkers } from './transitions/workers/register-workers.js';
export { deregisterWorkers, drainWorkers } from './transitions/workers/retire-workers.js';
export { touchWorkers } from './transitions/workers/touch-workers.js';
export * from './wakeup/channels.js';
