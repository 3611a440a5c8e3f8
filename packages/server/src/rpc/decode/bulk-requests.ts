/** Requests about bulk operations. */
import { create } from '@bufbuild/protobuf';
import { type RunFilter as RunFilterMessage, RunFilterSchema, type StartBulkOperationRequest } from '@perdure/proto';
import type { BulkKind, ControlBulkOperation, RunFilter, RunStatus, StartBulkOperation } from '@perdure/store';
import { bulkKinds, runStatuses } from '../enums.js';
import type { Checker } from './checker.js';
import { decodeName } from './name.js';
import { decodeCommonFilter, decodeFingerprint } from './workflow-requests.js';

const DEFAULT_RATE = 500;
const MAX_RATE = 10_000;

const OPEN: readonly RunStatus[] = ['PENDING', 'RUNNING', 'SLEEPING', 'WAITING', 'PAUSED'];
const ENDED: readonly RunStatus[] = ['COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED', 'CONTINUED'];

/** The statuses that an action is for. */
const STATUSES: Readonly<Record<BulkKind, readonly RunStatus[]>> = {
  CANCEL: OPEN,
  TERMINATE: OPEN,
  PAUSE: ['PENDING', 'RUNNING', 'SLEEPING', 'WAITING'],
  // A paused run is RUNNING until its worker gives it back.
  RESUME: ['PAUSED', 'RUNNING'],
  RETRY: ['FAILED', 'CANCELLED', 'TERMINATED'],
  SIGNAL: OPEN,
  DELETE: ENDED,
  DISMISS: ['FAILED'],
};

export type DecodedBulk = Omit<StartBulkOperation, 'matched' | 'isExact'> & { readonly dryRun: boolean };

export function decodeStartBulk(check: Checker, request: StartBulkOperationRequest): DecodedBulk {
  const kind = check.enumValue('kind', request.kind, bulkKinds);
  const isSignal = kind === 'SIGNAL';
  if (!isSignal && (request.signalName !== '' || request.signalPayload !== undefined)) {
    check.violate('signal_name', `is for SIGNAL only; got it with ${kind}.`);
  }
  return {
    kind,
    filter: decodeFilter(check, kind, request.namespace, request.filter ?? create(RunFilterSchema)),
    reason: check.text('reason', request.reason),
    actor: check.optionalId('actor', request.actor),
    requestId: check.optionalId('request_id', request.requestId) || null,
    signal: isSignal
      ? {
          name: decodeName(check, 'signal_name', request.signalName),
          payload: check.payload('signal_payload', request.signalPayload),
        }
      : null,
    rate: request.rate === 0 ? DEFAULT_RATE : check.integer('rate', request.rate, 1, MAX_RATE),
    dryRun: request.dryRun,
  };
}

function decodeFilter(check: Checker, kind: BulkKind, namespace: string, filter: RunFilterMessage): RunFilter {
  check.count('filter.statuses', filter.statuses.length, 0, 100);
  const possible = STATUSES[kind];
  const statuses = [...new Set(filter.statuses)].map((number, index) => {
    const field = `filter.statuses[${index}]`;
    const status = check.enumValue(field, number, runStatuses);
    if (!possible.includes(status)) {
      check.violate(field, `must be one of ${possible.join(', ')} for ${kind}; got ${status}.`);
    }
    return status;
  });
  const isDefaultRetry = kind === 'RETRY' && statuses.length === 0;
  return {
    ...decodeCommonFilter(check, { ...filter, namespace }, 'filter.'),
    statuses: statuses.length > 0 ? statuses : isDefaultRetry ? ['FAILED'] : possible,
    workflowId: check.optionalId('filter.workflow_id', filter.workflowId) || null,
    build: check.optionalId('filter.build', filter.build) || null,
    held: filter.held,
    paused: kind === 'RESUME',
    // Somebody has dealt with the others.
    unresolved: filter.unresolved || kind === 'DISMISS' || isDefaultRetry,
    failureFingerprint: decodeFingerprint(check, 'filter.failure_fingerprint', filter.failureFingerprint),
  };
}

export function decodeBulkRef(
  check: Checker,
  request: { readonly namespace: string; readonly operationId: string },
): { readonly namespace: string; readonly operationId: string } {
  return {
    namespace: check.namespace('namespace', request.namespace),
    operationId: check.uuid('operation_id', request.operationId),
  };
}

export function decodeControlBulk(
  check: Checker,
  request: {
    readonly namespace: string;
    readonly operationId: string;
    readonly reason: string;
    readonly actor: string;
  },
  act: ControlBulkOperation['act'],
): ControlBulkOperation {
  return {
    ...decodeBulkRef(check, request),
    act,
    reason: check.text('reason', request.reason),
    actor: check.optionalId('actor', request.actor),
  };
}
