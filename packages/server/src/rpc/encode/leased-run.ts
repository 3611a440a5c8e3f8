import type { MessageInitShape } from '@bufbuild/protobuf';
import type { LeasedRunSchema } from '@perdure/proto';
import type { ClaimedRun } from '@perdure/store';
import { encodePageToken } from '../decode/page-token.js';
import { memoScope } from '../decode/worker-requests.js';
import { arrivalMessage, memoMessage } from './model.js';
import { payloadMessage } from './payload.js';
import { durationOf, optionalTimestamp, timestampOf } from './time.js';

export function leasedRun(claim: ClaimedRun): MessageInitShape<typeof LeasedRunSchema> {
  const { run, nextMemoCursor } = claim;
  return {
    runId: run.runId,
    workflowId: run.workflowId,
    workflowType: run.workflowType,
    build: run.build,
    leaseToken: run.leaseToken,
    leaseDuration: durationOf(claim.leaseMs),
    attempt: run.attempt,
    retries: run.retries,
    lostLeases: run.lostLeases,
    cancelRequested: run.cancelRequestedAt !== null,
    createdAt: timestampOf(run.createdAt),
    memo: claim.memo.map(memoMessage),
    nextMemoToken:
      nextMemoCursor === null ? '' : encodePageToken(memoScope(run), [nextMemoCursor.entries, nextMemoCursor.bytes]),
    now: timestampOf(claim.now),
    compensating: run.compensation === 'COMPENSATING',
    hasArrivals: claim.hasArrivals,
    arrivals: claim.arrivals.map(arrivalMessage),
    ...(run.cancelObserved === null ? {} : { cancelObserved: run.cancelObserved }),
    ...(run.input == null ? {} : { input: payloadMessage(run.input) }),
    ...optionalTimestamp('startedAt', run.startedAt),
    ...optionalTimestamp('runDeadlineAt', run.runDeadlineAt),
    ...optionalTimestamp('executionDeadlineAt', run.executionDeadlineAt),
  };
}
