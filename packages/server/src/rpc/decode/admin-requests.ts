/** Requests of AdminService as queries. */
import type {
  CreateNamespaceRequest,
  DiagnoseRequest,
  ListNamespacesRequest,
  ListWorkersRequest,
} from '@perdure/proto';
import type { CreateNamespace, WorkerCursor, WorkerFilter } from '@perdure/store';
import { validate as isUuid } from 'uuid';
import { workerStatuses } from '../enums.js';
import type { Checker } from './checker.js';
import { decodePageToken } from './page-token.js';

export function decodeCreateNamespace(check: Checker, request: CreateNamespaceRequest): CreateNamespace {
  if (request.name === '') check.violate('name', 'must be given.');
  return {
    name: check.namespace('name', request.name),
    description: check.text('description', request.description),
  };
}

const NAMESPACES_SCOPE = ['namespaces'];

export function decodeListNamespaces(check: Checker, request: ListNamespacesRequest) {
  return {
    limit: check.pageSize('page_size', request.pageSize, 100),
    after: decodePageToken(check, 'page_token', request.pageToken, NAMESPACES_SCOPE, (cursor) =>
      typeof cursor === 'string' && !cursor.includes('\u0000') ? cursor : undefined,
    ),
  };
}

export const namespacesScope = (): unknown => NAMESPACES_SCOPE;

export function decodeListWorkers(check: Checker, request: ListWorkersRequest) {
  check.count('statuses', request.statuses.length, 0, 100);
  const filter: WorkerFilter = {
    namespace: check.namespace('namespace', request.namespace),
    taskQueue: check.optionalId('task_queue', request.taskQueue) || null,
    statuses: [...new Set(request.statuses)].map((status, index) =>
      check.enumValue(`statuses[${index}]`, status, workerStatuses),
    ),
  };
  return {
    filter,
    limit: check.pageSize('page_size', request.pageSize, 100),
    after: decodePageToken(check, 'page_token', request.pageToken, workersScope(filter), workerCursorOf),
  };
}

export const workersScope = (filter: WorkerFilter): unknown => ['workers', filter];

export const workerCursorFields = (cursor: WorkerCursor): unknown => [cursor.lastSeenAt.getTime(), cursor.workerId];

const DEFAULT_RECENT_MS = 3_600_000;
const MAX_RECENT_MS = 30 * 86_400_000;

export function decodeDiagnose(check: Checker, request: DiagnoseRequest) {
  return {
    namespace: check.namespace('namespace', request.namespace),
    recentMs: check.duration('recent', request.recent, DEFAULT_RECENT_MS, { maxMs: MAX_RECENT_MS }),
  };
}

function workerCursorOf(value: unknown): WorkerCursor | undefined {
  if (!Array.isArray(value)) return undefined;
  const [lastSeenMs, workerId] = value as unknown[];
  return typeof lastSeenMs === 'number' && Math.abs(lastSeenMs) < 8e15 && isUuid(workerId)
    ? { lastSeenAt: new Date(lastSeenMs), workerId: workerId as string }
    : undefined;
}
