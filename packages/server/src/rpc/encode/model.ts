/** The store's model as protobuf messages. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  type ArrivalSchema,
  type MemoEntry as MemoEntryMessage,
  MemoEntrySchema,
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
  MemoEntry,
  ReceivedUpdate,
  RecordedAction,
  Run,
  RunEnd,
  StepAttempt,
  UpdateAnswer,
  WorkerWithRuns,
} from '@perdure/store';
import {
  compensationNumber,
  parentCloseNumber,
  runActionKindNumber,
  runOriginNumber,
  runStatusNumber,
  stepKindNumber,
  stepStatusNumber,
  workerStatusNumber,
} from '../enums.js';
import { awaitsText } from './awaits.js';
import { failureMessage, optionalFailure } from './failure.js';
import { runPauseMessage } from './pauses.js';
import { optionalPayload } from './payload.js';
import { durationOf, optionalTimestamp, timestampOf } from './time.js';

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
    ...optionalTimestamp('startDeadlineAt', run.startDeadlineAt),
    ...optionalTimestamp('chainDeadlineAt', run.chainDeadlineAt),
    ...optionalTimestamp('cancelRequestedAt', run.cancelRequestedAt),
    ...optionalTimestamp('startedAt', run.startedAt),
    ...optionalTimestamp('finishedAt', run.finishedAt),
    ...optionalPayload('input', run.input),
    ...optionalPayload('output', run.output),
    ...optionalFailure(run.failure),
    ...(run.compensation === null ? {} : { compensation: compensationNumber[run.compensation] }),
    ...(run.pause === null ? {} : { pause: runPauseMessage(run.pause) }),
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
        }),
    firstRunId: run.firstRunId ?? '',
    nextRunId: run.nextRunId ?? '',
    ...optionalTimestamp('retriedAt', run.retriedAt),
    failureFingerprint: run.failureFingerprint ?? '',
    ...optionalTimestamp('resolvedAt', run.resolvedAt),
  });
}

export function actionMessage(action: RecordedAction): MessageInitShape<typeof RunActionSchema> {
  const { kind, actor, reason, actedAt, otherRunId, previous, stepId } = action;
  return {
    kind: runActionKindNumber[kind],
    actor,
    reason,
    actedAt: timestampOf(actedAt),
    otherRunId: otherRunId ?? '',
    stepId: stepId ?? '',
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
    ...(step.byHand === undefined ? {} : { byHand: actionMessage(step.byHand) }),
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
