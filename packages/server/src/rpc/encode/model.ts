/** The store's model as protobuf messages. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type ArrivalSchema,
  type Failure as FailureMessage,
  FailureSchema,
  type MemoEntry as MemoEntryMessage,
  MemoEntrySchema,
  type Payload as PayloadMessage,
  PayloadSchema,
  type ReceivedUpdateSchema,
  type RunActionSchema,
  type StepAttempt as StepAttemptMessage,
  StepAttemptSchema,
  type WorkerInfo,
  WorkerInfoSchema,
  type WorkflowRun,
  WorkflowRunSchema,
} from '@perdure/proto';
import type {
  Failure,
  MemoEntry,
  Payload,
  ReceivedUpdate,
  RecordedAction,
  Run,
  RunEnd,
  StepAttempt,
  UpdateAnswer,
  WorkerWithRuns,
} from '@perdure/store';
import {
  failureReasonNumber,
  parentCloseNumber,
  runActionKindNumber,
  runOriginNumber,
  runStatusNumber,
  stepKindNumber,
  stepStatusNumber,
  workerStatusNumber,
} from '../enums.js';
import { awaitsText } from './awaits.js';
import { durationOf, optionalTimestamp, timestampOf } from './time.js';

export function payloadMessage(payload: Payload): PayloadMessage {
  return create(PayloadSchema, { data: payload.data, encoding: payload.encoding });
}

export function optionalPayload<Key extends string>(
  key: Key,
  payload: Payload | null | undefined,
): { [K in Key]?: PayloadMessage } {
  return payload == null ? {} : ({ [key]: payloadMessage(payload) } as { [K in Key]?: PayloadMessage });
}

function loadedPayload({ data, encoding }: { readonly data: string; readonly encoding: string }): PayloadMessage {
  return payloadMessage({ data: Buffer.from(data, 'base64'), encoding });
}

function failureMessage(failure: Failure): FailureMessage {
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

/** How a run ended, as AwaitRunResponse has it. */
export function runEndFields(end: RunEnd) {
  return {
    status: runStatusNumber[end.status],
    cancelReason: end.cancelReason ?? '',
    ...optionalPayload('output', end.output),
    ...optionalFailure(end.failure),
  };
}

/** An answer to an update, as UpdateRunResponse has it. */
export function updateAnswerFields(answer: UpdateAnswer) {
  return answer.kind === 'COMPLETED' ? optionalPayload('output', answer.output) : optionalFailure(answer.failure);
}

function receivedUpdate(update: ReceivedUpdate | undefined): {
  update?: MessageInitShape<typeof ReceivedUpdateSchema>;
} {
  if (update === undefined) return {};
  const { name, requestId, sender, answer } = update;
  return { update: { name, requestId, sender, answered: answer !== null, refused: answer === 'REFUSED' } };
}

export function runMessage(run: Run): WorkflowRun {
  return create(WorkflowRunSchema, {
    runId: run.runId,
    namespace: run.namespace,
    workflowId: run.workflowId,
    workflowType: run.workflowType,
    build: run.build,
    taskQueue: run.taskQueue,
    priority: run.priority,
    status: runStatusNumber[run.status],
    attempt: run.attempt,
    leaseToken: run.leaseToken,
    leasedBy: run.leasedBy ?? '',
    cancelReason: run.cancelReason ?? '',
    lastReleaseReason: run.lastReleaseReason ?? '',
    lostLeases: run.lostLeases,
    retries: run.retries,
    createdAt: timestampOf(run.createdAt),
    updatedAt: timestampOf(run.updatedAt),
    ...optionalTimestamp('leaseExpiresAt', run.leaseExpiresAt),
    ...optionalTimestamp('availableAt', run.availableAt),
    ...optionalTimestamp('wakeAt', run.wakeAt),
    ...optionalTimestamp('runDeadlineAt', run.runDeadlineAt),
    ...optionalTimestamp('executionDeadlineAt', run.executionDeadlineAt),
    ...optionalTimestamp('cancelRequestedAt', run.cancelRequestedAt),
    ...optionalTimestamp('startedAt', run.startedAt),
    ...optionalTimestamp('finishedAt', run.finishedAt),
    ...optionalPayload('input', run.input),
    ...optionalPayload('output', run.output),
    ...optionalFailure(run.failure),
    ...(run.parent === null
      ? {}
      : {
          parentRunId: run.parent.runId,
          parentStepId: run.parent.stepId,
          parentClose: parentCloseNumber[run.parent.close],
        }),
    ...(run.origin === null
      ? {}
      : {
          originRunId: run.origin.runId,
          origin: runOriginNumber[run.origin.kind],
          originStepId: run.origin.stepId ?? '',
        }),
    firstRunId: run.firstRunId ?? '',
    nextRunId: run.nextRunId ?? '',
    ...optionalTimestamp('retriedAt', run.retriedAt),
  });
}

export function actionMessage(action: RecordedAction): MessageInitShape<typeof RunActionSchema> {
  const { kind, actor, reason, actedAt, stepId, otherRunId, previous } = action;
  return {
    kind: runActionKindNumber[kind],
    actor,
    reason,
    actedAt: timestampOf(actedAt),
    stepId: stepId ?? '',
    otherRunId: otherRunId ?? '',
    ...(previous === null ? {} : { previousStatus: runStatusNumber[previous.status] }),
    ...(previous?.failure ? { previousFailure: failureMessage(previous.failure) } : {}),
  };
}

export function stepMessage(step: StepAttempt): StepAttemptMessage {
  return create(StepAttemptSchema, {
    runId: step.runId,
    stepId: step.stepId,
    seq: step.seq,
    kind: stepKindNumber[step.kind],
    attemptNumber: step.attemptNumber,
    countedAttempt: step.countedAttempt,
    maxCountedAttempts: step.maxCountedAttempts,
    isLatest: step.isLatest,
    status: stepStatusNumber[step.status],
    workerId: step.workerId ?? '',
    leaseToken: step.leaseToken,
    eventSeq: step.eventSeq ?? 0,
    isCut: step.isCut,
    awaits: awaitsText(step),
    sender: step.sender ?? '',
    startedAt: timestampOf(step.startedAt),
    ...optionalTimestamp('finishedAt', step.finishedAt),
    ...optionalTimestamp('nextRetryAt', step.nextRetryAt),
    ...optionalTimestamp('firesAt', step.firesAt),
    ...optionalTimestamp('deadlineAt', step.deadlineAt),
    ...optionalPayload('input', step.input),
    ...optionalPayload('output', step.output),
    ...optionalPayload('heartbeat', step.heartbeat),
    ...optionalFailure(step.failure),
  });
}

export function memoMessage(entry: MemoEntry): MemoEntryMessage {
  return create(MemoEntrySchema, {
    stepId: entry.stepId,
    seq: entry.seq,
    kind: stepKindNumber[entry.kind],
    attemptNumber: entry.attemptNumber,
    countedAttempt: entry.countedAttempt,
    status: stepStatusNumber[entry.status],
    leaseToken: entry.leaseToken,
    eventSeq: entry.eventSeq ?? 0,
    isCut: entry.isCut,
    ...optionalTimestamp('finishedAt', entry.finishedAt),
    ...optionalTimestamp('nextRetryAt', entry.nextRetryAt),
    ...optionalTimestamp('firesAt', entry.firesAt),
    ...optionalPayload('output', entry.output),
    ...optionalPayload('heartbeat', entry.heartbeat),
    ...optionalFailure(entry.failure),
    ...receivedUpdate(entry.update),
  });
}

/** An outcome that came from outside. */
export function arrivalMessage(
  arrival: Pick<MemoEntry, 'stepId' | 'status' | 'output' | 'failure' | 'finishedAt' | 'update'>,
): MessageInitShape<typeof ArrivalSchema> {
  return {
    stepId: arrival.stepId,
    status: stepStatusNumber[arrival.status],
    ...optionalPayload('output', arrival.output),
    ...optionalFailure(arrival.failure),
    ...optionalTimestamp('finishedAt', arrival.finishedAt),
    ...receivedUpdate(arrival.update),
  };
}

export function workerMessage(worker: WorkerWithRuns): WorkerInfo {
  return create(WorkerInfoSchema, {
    workerId: worker.workerId,
    namespace: worker.namespace,
    taskQueue: worker.taskQueue,
    workflowTypes: [...worker.workflowTypes],
    build: worker.build,
    identity: worker.identity,
    slots: worker.slots,
    leaseDuration: durationOf(worker.leaseMs),
    status: workerStatusNumber[worker.status],
    registeredAt: timestampOf(worker.registeredAt),
    lastSeenAt: timestampOf(worker.lastSeenAt),
    running: worker.running,
  });
}
