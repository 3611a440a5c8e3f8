export { type Activity, type ActivityOptions, activity } from './activity.js';
export type { ChildOptions, ChildRun, MapOptions } from './child.js';
export type { ActionOptions, ForkOptions, RestartOptions, RunOf } from './client/act-on-run.js';
export { BulkHandle, type BulkKind, type BulkStatus, type BulkSummary } from './client/bulk-operation.js';
export { Client, type ClientOptions } from './client/client.js';
export type { FailureGroup } from './client/client-control.js';
export type { DispatchPauseSummary } from './client/client-pauses.js';
export type { ListOptions } from './client/list-options.js';
export type { PauseOptions } from './client/pause-options.js';
export type { PromiseSettlement, PromiseState, PromiseSummary } from './client/promises.js';
export type { PublishedEvent, PublishOptions } from './client/publish-event.js';
export type { ResultOptions } from './client/result-deadline.js';
export type { RunFilter } from './client/run-filter.js';
export { RunHandle } from './client/run-handle.js';
export type { Compensation, RunPauseSummary, RunStatus, RunSummary } from './client/run-summary.js';
export type { SignalOptions } from './client/send-signal.js';
export type { SendUpdateOptions, UpdateArguments } from './client/send-update.js';
export type { SignalWithStartOptions } from './client/signal-with-start.js';
export type { BulkOptions, BulkPreview } from './client/start-bulk.js';
export type { InputAnd, StartItem, StartOptions } from './client/start-options.js';
export { type AesGcmCodecOptions, aesGcmCodec } from './codec/aes-gcm-codec.js';
export type { Codec, EncodedPayload } from './codec/codec.js';
export { devalueCodec } from './codec/devalue-codec.js';
export { type GzipCodecOptions, gzipCodec } from './codec/gzip-codec.js';
export { jsonCodec } from './codec/json-codec.js';
export type {
  ContinueOptions,
  DurablePromise,
  EventWaitOptions,
  HandleOptions,
  RunInfo,
  StepContext,
  StepOptions,
  UpdateHandler,
  WaitOptions,
  WorkflowContext,
} from './context.js';
export type { Duration } from './duration.js';
export type { CompensationReport, FailedCompensation } from './errors/compensation-report.js';
export { type ErrorFacts, type ErrorOrigin, errorFacts } from './errors/error-facts.js';
export {
  AwaitTimeoutError,
  CancelledError,
  ChainTimeoutError,
  ChildCancelledError,
  ChildFailedError,
  ChildNotStartedError,
  ChildTerminatedError,
  CompensationError,
  ExecutionTimeoutError,
  HeartbeatTimeoutError,
  InvalidInputError,
  LeaseLostError,
  NonDeterminismError,
  PayloadTooLargeError,
  RetryableError,
  RetryBudgetError,
  type RunReference,
  RunTimeoutError,
  StartTimeoutError,
  StepTimeoutError,
  TerminalError,
  TimeoutError,
  TooManyLostLeasesError,
  UpdateRefusedError,
  UpdateTimeoutError,
  WorkerLostError,
  WorkflowCancelledError,
  WorkflowFailedError,
  WorkflowTerminatedError,
} from './errors/errors.js';
export type { LostLease } from './errors/lost-lease.js';
export { type EventDefinition, event } from './event.js';
export type { ErrorMatcher, RetryPolicy } from './retry.js';
export {
  type CallOptions,
  Connection,
  type ConnectionOptions,
  DEFAULT_ADDRESS,
  type ServiceClient,
} from './rpc/connection.js';
export { RpcError, type RpcErrorReason, type StatusName } from './rpc/rpc-error.js';
export type { CompensationOptions, Saga, SagaOptions } from './saga.js';
export { type Signal, signal } from './signal.js';
export { type Update, type UpdateOptions, update } from './update.js';
export { Worker } from './worker/worker.js';
export type { WorkerOptions } from './worker/worker-options.js';
export { type CallDefaults, type Workflow, type WorkflowOptions, workflow } from './workflow.js';
