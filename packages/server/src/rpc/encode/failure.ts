/** Failures as protobuf messages. */
import { create } from '@bufbuild/protobuf';
import {
  CompensationReportSchema,
  type Failure as FailureMessage,
  FailureSchema,
  LostLeaseSchema,
} from '@perdure/proto';
import type { CompensationReport, Failure, LostLease } from '@perdure/store';
import { failureReasonNumber } from '../enums.js';
import { loadedPayload } from './payload.js';
import { timestampOf } from './time.js';

export function failureMessage(failure: Failure): FailureMessage {
  return create(FailureSchema, {
    type: failure.type,
    message: failure.message,
    stack: failure.stack ?? '',
    code: failure.code ?? '',
    reason: failureReasonNumber[failure.reason],
    nonRetryable: failure.nonRetryable ?? false,
    stepId: failure.stepId ?? '',
    ...(failure.details === undefined ? {} : { details: loadedPayload(failure.details) }),
    ...(failure.sealed === undefined ? {} : { sealed: loadedPayload(failure.sealed) }),
    ...(failure.cause === undefined ? {} : { cause: failureMessage(failure.cause) }),
    ...(failure.child === undefined ? {} : { child: failure.child }),
    ...(failure.origin === undefined ? {} : { origin: failure.origin }),
    ...(failure.lostLeases === undefined ? {} : { lostLeases: failure.lostLeases.map(lostLeaseMessage) }),
    ...(failure.compensation === undefined ? {} : { compensation: reportMessage(failure.compensation) }),
    ...(failure.errors === undefined ? {} : { errors: failure.errors.map(failureMessage) }),
  });
}

export function lostLeaseMessage({ openSteps, lastSeenAt, lostAt, ...lease }: LostLease) {
  return create(LostLeaseSchema, {
    ...lease,
    openSteps: [...openSteps],
    lastSeenAt: timestampOf(new Date(lastSeenAt)),
    lostAt: timestampOf(new Date(lostAt)),
  });
}

function reportMessage({ compensated, failed }: CompensationReport) {
  return create(CompensationReportSchema, {
    compensated: [...compensated],
    failed: failed.map(({ stepId, failure }) => ({ stepId, failure: failureMessage(failure) })),
  });
}

export function optionalFailure(failure: Failure | null): { failure?: FailureMessage } {
  return failure === null ? {} : { failure: failureMessage(failure) };
}
