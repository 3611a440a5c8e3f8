/** Events and promises as protobuf messages. */
import { create } from '@bufbuild/protobuf';
import {
  type DurablePromise,
  DurablePromiseSchema,
  type Event as EventMessage,
  EventSchema,
  PromiseState as PromiseStateNumber,
} from '@perdure/proto';
import type { PromiseState, StepStatus, StoredEvent, StoredPromise } from '@perdure/store';
import { optionalFailure } from './failure.js';
import { optionalPayload } from './payload.js';
import { optionalTimestamp, timestampOf } from './time.js';

export function eventMessage(event: StoredEvent): EventMessage {
  return create(EventSchema, {
    eventId: event.eventId,
    namespace: event.namespace,
    name: event.name,
    key: event.key,
    requestId: event.requestId ?? '',
    publishedAt: timestampOf(event.publishedAt),
    expiresAt: timestampOf(event.expiresAt),
    ...optionalPayload('payload', event.payload),
  });
}

export const promiseStateNumber: Readonly<Record<PromiseState, PromiseStateNumber>> = {
  PENDING: PromiseStateNumber.PENDING,
  RESOLVED: PromiseStateNumber.RESOLVED,
  REJECTED: PromiseStateNumber.REJECTED,
  TIMED_OUT: PromiseStateNumber.TIMED_OUT,
  CANCELLED: PromiseStateNumber.CANCELLED,
};

/** The state of a promise whose step has ended with this status. */
export function settledState(status: StepStatus): Exclude<PromiseState, 'PENDING'> {
  switch (status) {
    case 'COMPLETED':
      return 'RESOLVED';
    case 'FAILED':
      return 'REJECTED';
    case 'TIMED_OUT':
      return 'TIMED_OUT';
    default:
      return 'CANCELLED';
  }
}

export function promiseMessage(promise: StoredPromise): DurablePromise {
  return create(DurablePromiseSchema, {
    promiseId: promise.promiseId,
    namespace: promise.namespace,
    runId: promise.runId,
    workflowId: promise.workflowId,
    stepId: promise.stepId,
    state: promiseStateNumber[promise.state],
    createdAt: timestampOf(promise.createdAt),
    ...optionalTimestamp('timesOutAt', promise.timesOutAt),
    ...optionalTimestamp('settledAt', promise.settledAt),
    ...optionalPayload('value', promise.value),
    ...optionalFailure(promise.failure),
  });
}
