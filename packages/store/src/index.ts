export * from './commands.js';
export { type Database, type DatabaseOptions, openDatabase } from './database/database.js';
export { DatabaseUnavailableError, DataError } from './database/errors.js';
export type { Listener } from './database/listener.js';
export { allStatements } from './database/statement.js';
export * from './model.js';
export { findRunIds, findRuns } from './reads/find-runs.js';
export { finishedAmong } from './reads/finished-among.js';
export { listNamespaces, namespaceExists } from './reads/list-namespaces.js';
export { countRuns, listRuns } from './reads/list-runs.js';
export { listTaskQueues } from './reads/list-task-queues.js';
export { getRegistration, getWorker, listWorkers } from './reads/list-workers.js';
export * from './reads/queries.js';
export { readDatabaseFacts, schemaVersion } from './reads/read-database-facts.js';
export { type MemoPageLimits, readMemo } from './reads/read-memo.js';
export { readRunFacts } from './reads/read-run-facts.js';
export { getStepAttempt, listStepAttempts, readHistory } from './reads/read-steps.js';
export { startIdentity } from './run-id.js';
export { LATEST_SCHEMA_VERSION, type MigrateOptions, type MigrateResult, migrate } from './schema/migrate.js';
export { expireRuns } from './sweeps/expire-runs.js';
export { expireSteps } from './sweeps/expire-steps.js';
export { nextDueMs } from './sweeps/next-due.js';
export type { QueueRef } from './sweeps/queues.js';
export { type Reclaimed, type ReclaimOptions, reclaimLeases } from './sweeps/reclaim-leases.js';
export { retireStaleWorkers } from './sweeps/retire-stale-workers.js';
export { wakeSleepers } from './sweeps/wake-sleepers.js';
export { announceServer, retireServer } from './transitions/announce-servers.js';
export { beginSteps } from './transitions/begin-steps.js';
export { cancelRuns } from './transitions/cancel-runs.js';
export { claimRuns } from './transitions/claim-runs.js';
export { completeSteps } from './transitions/complete-steps.js';
export {
  type CreateNamespace,
  type CreateNamespaceOutcome,
  createNamespaces,
} from './transitions/create-namespaces.js';
export { failSteps } from './transitions/fail-steps.js';
export { finishRuns } from './transitions/finish-runs.js';
export { recordStepHeartbeats } from './transitions/record-step-heartbeats.js';
export { registerWorkers } from './transitions/register-workers.js';
export { releaseRuns } from './transitions/release-runs.js';
export { renewLeases } from './transitions/renew-leases.js';
export { deregisterWorkers, drainWorkers } from './transitions/retire-workers.js';
export { retryRunAttempts } from './transitions/retry-run-attempts.js';
export { scheduleSleeps } from './transitions/schedule-sleeps.js';
export { startRuns } from './transitions/start-runs.js';
export { suspendRuns } from './transitions/suspend-runs.js';
export { terminateRuns } from './transitions/terminate-runs.js';
export { touchWorkers } from './transitions/touch-workers.js';
