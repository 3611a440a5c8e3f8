export type { BodyCall } from './bodies/body-call.js';
export type { Stub, StubBody, StubbedCall, StubScope } from './bodies/stub.js';
export {
  type DroppingOptions,
  dropping,
  type Fate,
  type LeaseKey,
  WORKER_WRITES,
  type WorkerWrite,
  type WorkerWriteMethod,
} from './connection/dropping.js';
export { withService } from './connection/with-service.js';
export type { CrashOptions, CrashRun } from './crash/crash-options.js';
export type { CrashReport } from './crash/crash-report.js';
export { createTestEnvironment } from './create-test-environment.js';
export type { TestEnvironment } from './environment/environment.js';
export type { TestEnvironmentOptions, TestStartOptions, TestWorkerOptions } from './environment/options.js';
export { expectHistory, type HistoryAssertions } from './history/expect-history.js';
export type { ExpectedStep, StepPattern } from './history/expected-step.js';
export type { HistoryStep } from './history/history.js';
