/** Bulk operations as protobuf messages. */
import { create } from '@bufbuild/protobuf';
import { type BulkOperation as BulkOperationMessage, BulkOperationSchema } from '@perdure/proto';
import type { BulkOperation, RunFilter } from '@perdure/store';
import {
  bulkActionKindNumber,
  bulkKindNumber,
  bulkStatusNumber,
  compensationNumber,
  runStatusNumber,
} from '../enums.js';
import { optionalTimestamp, timestampOf } from './time.js';

export function bulkMessage(operation: BulkOperation): BulkOperationMessage {
  const { operationId, namespace, actor, reason, rate, matched, changed, unchanged, refused } = operation;
  return create(BulkOperationSchema, {
    operationId,
    namespace,
    kind: bulkKindNumber[operation.kind],
    status: bulkStatusNumber[operation.status],
    filter: filterMessage(operation.filter),
    actor,
    reason,
    signalName: operation.signalName ?? '',
    rate,
    matched,
    matchedIsExact: operation.isExact,
    changed,
    unchanged,
    refused,
    refusals: operation.refusals.map((refusal) => ({ ...refusal })),
    actions: operation.actions.map(({ kind, actedAt, ...action }) => ({
      ...action,
      kind: bulkActionKindNumber[kind],
      actedAt: timestampOf(actedAt),
    })),
    workedBy: operation.workedBy ?? '',
    trouble: operation.trouble ?? '',
    createdAt: timestampOf(operation.createdAt),
    updatedAt: timestampOf(operation.updatedAt),
    ...optionalTimestamp('finishedAt', operation.finishedAt),
  });
}

function filterMessage(filter: RunFilter) {
  return {
    statuses: filter.statuses.map((status) => runStatusNumber[status]),
    workflowType: filter.workflowType ?? '',
    taskQueue: filter.taskQueue ?? '',
    workflowId: filter.workflowId ?? '',
    build: filter.build ?? '',
    parentRunId: filter.parentRunId ?? '',
    held: filter.held,
    unresolved: filter.unresolved,
    failureFingerprint: filter.failureFingerprint ?? '',
    ...(filter.compensation === null ? {} : { compensation: compensationNumber[filter.compensation] }),
    ...optionalTimestamp('createdAfter', filter.createdAfter),
    ...optionalTimestamp('createdBefore', filter.createdBefore),
  };
}
