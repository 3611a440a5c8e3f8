/** Requests of WorkflowService as commands and queries. */
import { create } from '@bufbuild/protobuf';
import {
  type CountRunsRequest,
  type ExecuteWorkflowRequest,
  type GetHistoryRequest,
  type GetRunTreeRequest,
  type ListRunsRequest,
  type StartWorkflowRequest,
  StartWorkflowRequestSchema,
  type StartWorkflowsRequest,
} from '@perdure/proto';
import type { CancelRun, HistoryCursor, RunFilter, RunRef, StartRun } from '@perdure/store';
import { startIdentity } from '@perdure/store';
import { validate as isUuid } from 'uuid';
import { compensations, reusePolicies, runStatuses } from '../enums.js';
import type { Checker } from './checker.js';
import { decodePageToken } from './page-token.js';
import { decodeWait } from './wait.js';

export const MAX_STARTS = 500;
export const DEFAULT_MAX_LOST_LEASES = 10;
export const MAX_LOST_LEASES = 1_000;

/** @param path of the message in the request, ending with a dot, or empty */
export function decodeStart(check: Checker, request: StartWorkflowRequest, path = ''): StartRun {
  const namespace = check.namespace(`${path}namespace`, request.namespace);
  const givenId = check.optionalId(`${path}request_id`, request.requestId);
  const { runId, requestId, freshRunId } = startIdentity(namespace, givenId);
  const workflowId = check.optionalId(`${path}workflow_id`, request.workflowId);
  return {
    runId,
    namespace,
    workflowId: workflowId || givenId || runId,
    workflowType: check.id(`${path}workflow_type`, request.workflowType),
    taskQueue: check.id(`${path}task_queue`, request.taskQueue),
    input: check.payload(`${path}input`, request.input),
    requestId,
    freshRunId,
    priority: check.integer(`${path}priority`, request.priority, -100, 100),
    build: check.optionalId(`${path}build`, request.build),
    reusePolicy: check.enumValue(`${path}reuse_policy`, request.reusePolicy, reusePolicies, 'ALLOW'),
    startDelayMs: check.duration(`${path}start_delay`, request.startDelay, 0),
    runTimeoutMs: check.duration(`${path}run_timeout`, request.runTimeout, 0),
    executionTimeoutMs: check.duration(`${path}execution_timeout`, request.executionTimeout, 0),
    startTimeoutMs: check.duration(`${path}start_timeout`, request.startTimeout, 0),
    chainTimeoutMs: check.duration(`${path}chain_timeout`, request.chainTimeout, 0),
    maxLostLeases:
      request.maxLostLeases === 0
        ? DEFAULT_MAX_LOST_LEASES
        : check.integer(`${path}max_lost_leases`, request.maxLostLeases, 1, MAX_LOST_LEASES),
  };
}

export interface ExecuteRun {
  readonly start: StartRun;
  readonly waitMs: number;
}

export function decodeExecute(check: Checker, { start, wait }: ExecuteWorkflowRequest): ExecuteRun {
  if (start === undefined) check.violate('start', 'must be given.');
  return {
    start: decodeStart(check, start ?? create(StartWorkflowRequestSchema), 'start.'),
    waitMs: decodeWait(check, wait),
  };
}

export function decodeStarts(check: Checker, request: StartWorkflowsRequest): StartRun[] {
  const namespace = check.namespace('namespace', request.namespace);
  check.count('runs', request.runs.length, 1, MAX_STARTS);
  return request.runs.slice(0, MAX_STARTS).map((run, index) => {
    const own = run.namespace || namespace;
    if (own !== namespace) {
      check.violate(`runs[${index}].namespace`, `must be empty or the namespace of the batch ('${namespace}').`);
    }
    return decodeStart(check, { ...run, namespace }, `runs[${index}].`);
  });
}

/** Exactly one of run_id and workflow_id. */
export function decodeRunRef(
  check: Checker,
  request: { readonly namespace: string; readonly runId: string; readonly workflowId: string },
): RunRef {
  const namespace = check.namespace('namespace', request.namespace);
  if ((request.runId === '') === (request.workflowId === '')) {
    check.violate(
      'run_id',
      `exactly one of run_id and workflow_id must be given; got ${request.runId === '' ? 'neither' : 'both'}.`,
    );
    return { namespace, runId: null, workflowId: null };
  }
  return request.runId !== ''
    ? { namespace, runId: check.uuid('run_id', request.runId), workflowId: null }
    : { namespace, runId: null, workflowId: check.id('workflow_id', request.workflowId) };
}

/** The run as the caller named it, for messages. */
export const refText = (ref: RunRef): string => ref.runId ?? ref.workflowId ?? '';

export function decodeActOnRun(
  check: Checker,
  request: { readonly namespace: string; readonly runId: string; readonly workflowId: string; readonly reason: string },
): { readonly ref: RunRef; readonly reason: CancelRun['reason'] } {
  return { ref: decodeRunRef(check, request), reason: check.text('reason', request.reason) };
}

export interface ListRuns {
  readonly filter: RunFilter;
  readonly limit: number;
  readonly after: string | null;
}

export function decodeListRuns(check: Checker, request: ListRunsRequest): ListRuns {
  check.count('statuses', request.statuses.length, 0, 100);
  const filter: RunFilter = {
    ...decodeCommonFilter(check, request),
    statuses: [...new Set(request.statuses)].map((status, index) =>
      check.enumValue(`statuses[${index}]`, status, runStatuses),
    ),
    workflowId: check.optionalId('workflow_id', request.workflowId) || null,
    build: check.optionalId('build', request.build) || null,
    held: request.held,
    paused: false,
    unresolved: request.unresolved,
    failureFingerprint: decodeFingerprint(check, 'failure_fingerprint', request.failureFingerprint),
  };
  return {
    filter,
    limit: check.pageSize('page_size', request.pageSize, 50),
    after: decodePageToken(check, 'page_token', request.pageToken, listScope(filter), (cursor) =>
      isUuid(cursor) ? (cursor as string) : undefined,
    ),
  };
}

export const listScope = (filter: RunFilter): unknown => ['runs', filter];

export function decodeCountRuns(check: Checker, request: CountRunsRequest): RunFilter {
  return {
    ...decodeCommonFilter(check, request),
    statuses: [],
    workflowId: null,
    build: null,
    held: false,
    paused: false,
    unresolved: false,
    failureFingerprint: null,
  };
}

const FINGERPRINT = /^[0-9a-f]{16}$/;

/** Empty means any. */
export function decodeFingerprint(check: Checker, field: string, value: string): string | null {
  if (value === '') return null;
  if (!FINGERPRINT.test(value)) check.violate(field, 'must be the 16 hexadecimal digits of a fingerprint, or empty.');
  return value;
}

type CommonFields =
  | 'namespace'
  | 'workflowType'
  | 'taskQueue'
  | 'compensation'
  | 'parentRunId'
  | 'createdAfter'
  | 'createdBefore';

/** @param path of the filter in the request, ending with a dot, or empty */
export function decodeCommonFilter(check: Checker, request: Pick<CountRunsRequest, CommonFields>, path = '') {
  const { workflowType, taskQueue, compensation, parentRunId, createdAfter, createdBefore } = request;
  return {
    namespace: check.namespace('namespace', request.namespace),
    workflowType: check.optionalId(`${path}workflow_type`, workflowType) || null,
    taskQueue: check.optionalId(`${path}task_queue`, taskQueue) || null,
    compensation: compensation === 0 ? null : check.enumValue(`${path}compensation`, compensation, compensations),
    parentRunId: parentRunId === '' ? null : check.uuid(`${path}parent_run_id`, parentRunId),
    createdAfter: check.timestamp(`${path}created_after`, createdAfter),
    createdBefore: check.timestamp(`${path}created_before`, createdBefore),
  };
}

export interface GetRunTree {
  readonly ref: RunRef;
  readonly maxChildren: number;
}

export function decodeGetRunTree(check: Checker, request: GetRunTreeRequest): GetRunTree {
  return { ref: decodeRunRef(check, request), maxChildren: check.pageSize('max_children', request.maxChildren, 50) };
}

export interface GetHistory {
  readonly ref: RunRef;
  readonly limit: number;
  readonly after: HistoryCursor | null;
  readonly payloads: boolean;
}

export function decodeGetHistory(check: Checker, request: GetHistoryRequest): GetHistory {
  const ref = decodeRunRef(check, request);
  return {
    ref,
    limit: check.pageSize('page_size', request.pageSize, 200),
    after: decodePageToken(check, 'page_token', request.pageToken, historyScope(ref), historyCursorOf),
    payloads: request.includePayloads,
  };
}

export const historyScope = (ref: RunRef): unknown => ['history', ref];

export const historyCursorFields = ({ seq, stepId, attemptNumber }: HistoryCursor): unknown => [
  seq,
  stepId,
  attemptNumber,
];

function historyCursorOf(cursor: unknown): HistoryCursor | undefined {
  if (!Array.isArray(cursor) || cursor.length !== 3) return undefined;
  const [seq, stepId, attemptNumber] = cursor as unknown[];
  return isInt32(seq) && typeof stepId === 'string' && !stepId.includes('\u0000') && isInt32(attemptNumber)
    ? { seq, stepId, attemptNumber }
    : undefined;
}

function isInt32(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && Math.abs(value) < 2 ** 31;
}
