export {
  FAILURE_CATEGORIES,
  type FailureCategory,
  type FailureFacts,
  type FailureOriginFacts,
  failureCategory,
  failureFacts,
} from './failure-facts.js';
export * from './gen/google/rpc/error_details_pb.js';
export * from './gen/google/rpc/status_pb.js';
export * from './gen/perdure/v1/admin_service_pb.js';
export * from './gen/perdure/v1/session_service_pb.js';
export * from './gen/perdure/v1/types_pb.js';
export * from './gen/perdure/v1/worker_service_pb.js';
export * from './gen/perdure/v1/workflow_service_pb.js';
export { dateOf, durationOf, msOf, timestampOf } from './time.js';
