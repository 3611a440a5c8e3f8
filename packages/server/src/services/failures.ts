import { create } from '@bufbuild/protobuf';
import { FailureGroupSchema, type ListFailuresRequest, type WorkflowService } from '@perdure/proto';
import { type FailureGroup, listFailureGroups } from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import type { Checker } from '../rpc/decode/checker.js';
import { decode } from '../rpc/decode/decode.js';
import { decodePageToken, encodePageToken } from '../rpc/decode/page-token.js';
import { timestampOf } from '../rpc/encode/time.js';
import { failureReasonNumber } from '../rpc/enums.js';
import { checkNamespace } from './check-namespace.js';

/** RPCs about dead letters. */
export function failures(context: ServerContext): Pick<Handlers<typeof WorkflowService>, 'listFailures'> {
  return {
    async listFailures(request, call) {
      const { filter, page } = decode(context, (check) => decodeListFailures(check, request));
      const from = context.reads.for(call);
      const { groups, next } = await listFailureGroups(from, filter, page);
      if (groups.length === 0) await checkNamespace(from, filter.namespace);
      return {
        groups: groups.map(groupMessage),
        nextPageToken: next === null ? '' : encodePageToken(['failures', filter], next),
      };
    },
  };
}

function decodeListFailures(check: Checker, request: ListFailuresRequest) {
  const filter = {
    namespace: check.namespace('namespace', request.namespace),
    workflowType: check.optionalId('workflow_type', request.workflowType) || null,
  };
  const after = decodePageToken(check, 'page_token', request.pageToken, ['failures', filter], (cursor) =>
    typeof cursor === 'string' && /^[0-9a-f]{16}$/.test(cursor) ? cursor : undefined,
  );
  return { filter, page: { limit: check.pageSize('page_size', request.pageSize, 50), after } };
}

function groupMessage(group: FailureGroup) {
  const { fingerprint, workflowType, runs, firstAt, lastAt, newestRunId, failure } = group;
  return create(FailureGroupSchema, {
    fingerprint,
    workflowType,
    runs,
    firstFailedAt: timestampOf(firstAt),
    lastFailedAt: timestampOf(lastAt),
    newestRunId,
    newestFailure: {
      type: failure.type,
      message: failure.message,
      code: failure.code ?? '',
      stepId: failure.stepId ?? '',
      reason: failureReasonNumber[failure.reason],
    },
  });
}
