import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  BeginStepResponseSchema,
  CompleteStepRequest,
  CompleteStepResponseSchema,
  FailStepResponseSchema,
  ScheduleSleepResponseSchema,
  SettleStepResponseSchema,
  StepBegin,
  WorkerService,
} from '@perdure/proto';
import type {
  BeginStep,
  BeginStepOutcome,
  CompleteStep,
  CompleteStepOutcome,
  FailStep,
  FailStepOutcome,
  RecordStep,
  RecordStepOutcome,
  ScheduleSleep,
  ScheduleSleepOutcome,
  SettleStep,
  SettleStepOutcome,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { RpcError } from '../call/rpc-error.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import * as decoders from '../rpc/decode/worker-requests.js';
import { sharedPerOutcome } from '../rpc/encode/shared-answer.js';
import { durationOf, optionalTimestamp, timestampOf } from '../rpc/encode/time.js';
import {
  cancelNotRequested,
  cancelRequested,
  endedByHand,
  fenceRefused,
  runPaused,
  stepMismatch,
  stepNotFound,
  timerNotDue,
  wrongAttempt,
} from '../rpc/outcomes.js';
import { answering } from './answering.js';

/** RPCs that record the steps of runs that a worker holds. */
export function leasedSteps(
  context: ServerContext,
): Pick<Handlers<typeof WorkerService>, 'beginStep' | 'completeStep' | 'failStep' | 'settleStep' | 'scheduleSleep'> {
  const { commands, config } = context;
  const beginStep = (step: BeginStep) =>
    commands.beginStep({
      ...step,
      timeoutMs: step.timeoutMs === 0 ? 0 : step.timeoutMs + config.stepTimeoutGraceMs,
    });
  const completeStep = answering(context, decoders.decodeCompleteStep, commands.completeStep, stepCompleted);
  const recordStep = async (request: CompleteStepRequest, begin: StepBegin) => {
    const step = decode(context, (check) => decoders.decodeRecordStep(check, request, begin));
    return stepRecorded(step, await commands.recordStep(step));
  };
  return {
    beginStep: answering(context, decoders.decodeBeginStep, beginStep, stepBegun),
    completeStep: (request) =>
      request.begin === undefined ? completeStep(request) : recordStep(request, request.begin),
    failStep: answering(context, decoders.decodeFailStep, commands.failStep, stepFailed),
    settleStep: answering(context, decoders.decodeSettleStep, commands.settleStep, stepSettled),
    scheduleSleep: answering(context, decoders.decodeScheduleSleep, commands.scheduleSleep, sleepScheduled),
  };
}

function stepBegun(step: BeginStep, outcome: BeginStepOutcome): MessageInitShape<typeof BeginStepResponseSchema> {
  switch (outcome.kind) {
    case 'begun':
    case 'already_begun':
      return { startedAt: timestampOf(outcome.startedAt) };
    default:
      throw beginRefused(step, outcome);
  }
}

type StepEnded = MessageInitShape<typeof CompleteStepResponseSchema>;

function stepCompleted(step: CompleteStep, outcome: CompleteStepOutcome): StepEnded {
  switch (outcome.kind) {
    case 'completed':
    case 'already_completed':
      return stepEnded(outcome);
    case 'wrong_attempt':
      throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
    case 'step_not_found':
      throw stepNotFound(step.runId, step.stepId, step.attemptNumber);
    case 'ended_by_hand':
      throw endedByHand(step.runId, step.stepId);
    case 'not_due':
      throw timerNotDue(step.runId, step.stepId, outcome.remainingMs);
    default:
      throw fenceRefused(step, outcome);
  }
}

function stepRecorded(step: RecordStep, outcome: RecordStepOutcome): StepEnded {
  switch (outcome.kind) {
    case 'recorded':
    case 'already_recorded':
      return recordedAnswer(outcome);
    default:
      throw beginRefused(step, outcome);
  }
}

interface EndedStep {
  readonly finishedAt: Date;
  readonly cancelRequested: boolean;
}

function stepEnded(outcome: EndedStep): StepEnded {
  return { finishedAt: timestampOf(outcome.finishedAt), cancelRequested: outcome.cancelRequested };
}

/** All steps of a batch on the fast path share one outcome. */
const recordedAnswer = sharedPerOutcome(stepEnded);

function stepFailed(step: FailStep, outcome: FailStepOutcome): MessageInitShape<typeof FailStepResponseSchema> {
  switch (outcome.kind) {
    case 'failed':
    case 'already_failed':
      return {
        finishedAt: timestampOf(outcome.finishedAt),
        cancelRequested: outcome.cancelRequested,
        ...optionalTimestamp('nextRetryAt', outcome.nextRetryAt),
      };
    case 'wrong_attempt':
      throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
    case 'step_not_found':
      throw stepNotFound(step.runId, step.stepId, step.attemptNumber);
    case 'ended_by_hand':
      throw endedByHand(step.runId, step.stepId);
    default:
      throw fenceRefused(step, outcome);
  }
}

function stepSettled(step: SettleStep, outcome: SettleStepOutcome): MessageInitShape<typeof SettleStepResponseSchema> {
  switch (outcome.kind) {
    case 'settled':
    case 'already_settled':
      return { finishedAt: timestampOf(outcome.finishedAt) };
    case 'arrived':
      return { arrived: true };
    case 'cancel_not_requested':
      throw cancelNotRequested(step.runId);
    case 'step_mismatch':
      throw stepMismatch(step.runId, step.stepId, { kind: step.stepKind, seq: step.seq }, outcome);
    case 'wrong_attempt':
      throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
    default:
      throw fenceRefused(step, outcome);
  }
}

function sleepScheduled(
  sleep: ScheduleSleep,
  outcome: ScheduleSleepOutcome,
): MessageInitShape<typeof ScheduleSleepResponseSchema> {
  switch (outcome.kind) {
    case 'scheduled':
    case 'already_scheduled':
      return {
        firesAt: timestampOf(outcome.firesAt),
        remaining: durationOf(Math.max(0, Math.ceil(outcome.remainingMs))),
        attemptNumber: outcome.attemptNumber,
      };
    case 'wrong_attempt':
      throw wrongAttempt(sleep.runId, sleep.stepId, sleep.attemptNumber, outcome);
    case 'step_mismatch':
      throw stepMismatch(sleep.runId, sleep.stepId, { kind: 'SLEEP', seq: sleep.seq }, outcome);
    case 'paused':
      throw runPaused(sleep.runId);
    case 'cancel_requested':
      throw cancelRequested(sleep.runId);
    default:
      throw fenceRefused(sleep, outcome);
  }
}

/** Why an attempt may not begin. */
export function beginRefused(
  step: BeginStep | RecordStep,
  outcome: Exclude<BeginStepOutcome, { readonly kind: 'begun' | 'already_begun' }>,
): RpcError {
  switch (outcome.kind) {
    case 'step_mismatch':
      return stepMismatch(step.runId, step.stepId, { kind: step.stepKind, seq: step.seq }, outcome);
    case 'wrong_attempt':
      return wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
    case 'ended_by_hand':
      return endedByHand(step.runId, step.stepId);
    case 'paused':
      return runPaused(step.runId);
    case 'cancel_requested':
      return cancelRequested(step.runId);
    default:
      return fenceRefused(step, outcome);
  }
}
