/** Failures as protobuf messages. */
import { create } from '@bufbuild/protobuf';
import { type Failure as FailureMessage, FailureSchema } from '@perdure/proto';
import type { Failure } from '@perdure/store';
import { failureReasonNumber } from '../enums.js';
import { loadedPayload } from './payload.js';

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
    ...(failure.errors === undefined ? {} : { errors: failure.errors.map(failureMessage) }),
  });
}

export function optionalFailure(failure: Failure | null): { failure?: FailureMessage } {
  return failure === null ? {} : { failure: failureMessage(failure) };
}
