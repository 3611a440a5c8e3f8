import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  durationOf,
  ErrorReason,
  type StartWorkflowRequestSchema,
  type StartWorkflowsResponse_StartError,
} from '@perdure/proto';
import { v7 as newUuid } from 'uuid';
import { encodeValue } from '../codec/payload.js';
import { durationMs } from '../duration.js';
import { knownReason, RpcError, type StatusName } from '../rpc/rpc-error.js';
import { checkId } from '../text.js';
import { validInput, type Workflow } from '../workflow.js';
import type { ClientContext } from './await-result.js';
import type { RetryUntilAnsweredOptions } from './retry-until-answered.js';
import { REUSE_POLICIES, type StartOptions } from './start-options.js';

export type StartRequest = MessageInitShape<typeof StartWorkflowRequestSchema>;
type WorkflowRef = Pick<Workflow, 'name' | 'options'> | string;

const STARTS_PER_CALL = 500;
const BYTES_PER_CALL = 2 * 1024 * 1024;
/** gRPC status by reason of a start that was refused among others. */
const START_STATUS = { WORKFLOW_ALREADY_EXISTS: 'ALREADY_EXISTS', NAMESPACE_NOT_FOUND: 'NOT_FOUND' } as const;

/**
 * @param options already checked
 * @param retries for the call that reads the size limit
 * @throws {TypeError} naming the part of the input that cannot be encoded
 * @throws {InvalidInputError} when the input does not fit the workflow's schema
 * @throws {PayloadTooLargeError} when it is larger than the server accepts
 */
export async function startRequest(
  { namespace, codec, limit }: ClientContext,
  workflow: WorkflowRef,
  input: unknown,
  options: StartOptions,
  retries: RetryUntilAnsweredOptions = {},
): Promise<StartRequest> {
  const name = nameOf(workflow);
  checkId("The workflow's name", name);
  if (typeof workflow !== 'string') await validInput(workflow, input);
  // The worker checks again and passes on the output of its own schema.
  const payload = encodeValue(codec, input, inputOf(name));
  await limit.check(payload, inputOf(name), retries);
  const duration = (key: 'startDelay' | 'runTimeout' | 'executionTimeout' | 'startTimeout' | 'chainTimeout') => {
    const value = options[key];
    return value === undefined ? {} : { [key]: durationOf(durationMs(value, key)) };
  };
  return {
    namespace,
    workflowType: name,
    taskQueue: options.taskQueue,
    workflowId: options.workflowId ?? '',
    requestId: options.requestId ?? newUuid(),
    priority: options.priority ?? 0,
    build: options.build ?? '',
    reusePolicy: REUSE_POLICIES[options.reusePolicy ?? 'allow'],
    maxLostLeases: options.maxLostLeases ?? 0,
    ...(payload === undefined ? {} : { input: payload }),
    ...duration('startDelay'),
    ...duration('runTimeout'),
    ...duration('executionTimeout'),
    ...duration('startTimeout'),
    ...duration('chainTimeout'),
  };
}

export function nameOf(workflow: WorkflowRef): string {
  return typeof workflow === 'string' ? workflow : workflow.name;
}

export function inputOf(workflowName: string): string {
  return `The input of workflow '${workflowName}'`;
}

/** Batches of as many starts as the server accepts in one call, by number and by size. */
export function inBatches(requests: readonly StartRequest[]): StartRequest[][] {
  const batches: StartRequest[][] = [];
  let batch: StartRequest[] = [];
  let bytes = 0;
  for (const request of requests) {
    const size = (request.input?.data?.byteLength ?? 0) + 1_000;
    if (batch.length >= STARTS_PER_CALL || (batch.length > 0 && bytes + size > BYTES_PER_CALL)) {
      batches.push(batch);
      batch = [];
      bytes = 0;
    }
    batch.push(request);
    bytes += size;
  }
  if (batch.length > 0) batches.push(batch);
  return batches;
}

/** The error of one start of many. */
export function startError(value: StartWorkflowsResponse_StartError | undefined): RpcError {
  const reason = knownReason(ErrorReason[value?.reason ?? ErrorReason.UNSPECIFIED] ?? '');
  const status: StatusName = START_STATUS[reason as keyof typeof START_STATUS] ?? 'UNKNOWN';
  return new RpcError(status, value?.message ?? 'The server gave no result for this start.', {
    reason,
    metadata: value?.existingRunId ? { run_id: value.existingRunId } : {},
  });
}
