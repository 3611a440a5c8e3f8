import type { MessageInitShape } from '@bufbuild/protobuf';
import type { CompleteStepRequest, CompleteStepResponseSchema, StepBegin, WorkerService } from '@perdure/proto';
import type { BeginStep, BeginStepOutcome, RecordStep } from '@perdure/store';
import { decode, type ServerContext } from '../context.js';
import * as decoders from '../rpc/decode/worker-requests.js';
import { durationOf, optionalTimestamp, timestampOf } from '../rpc/encode/time.js';
import type { Handlers } from '../rpc/handlers.js';
import {
  cancelNotRequested,
  cancelRequested,
  fenceRefused,
  stepMismatch,
  stepNotFound,
  timerNotDue,
  wrongAttempt,
} from '../rpc/outcomes.js';
import type { RpcError } from '../rpc/rpc-error.js';

/** What workers record of the steps of runs that they hold. */
export function leasedSteps(
  context: ServerContext,
): Pick<Handlers<typeof WorkerService>, 'beginStep' | 'completeStep' | 'failStep' | 'settleStep' | 'scheduleSleep'> {
  const { commands, config } = context;

  const completeStep = async (request: CompleteStepRequest) => {
    const step = decode(context, (check) => decoders.decodeCompleteStep(check, request));
    const outcome = await commands.completeStep(step);
    switch (outcome.kind) {
      case 'completed':
      case 'already_completed':
        return stepFinished(outcome);
      case 'wrong_attempt':
        throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
      case 'step_not_found':
        throw stepNotFound(step.runId, step.stepId, step.attemptNumber);
      case 'not_due':
        throw timerNotDue(step.runId, step.stepId, outcome.remainingMs);
      default:
        throw fenceRefused(step, outcome);
    }
  };

  const recordStep = async (request: CompleteStepRequest, begin: StepBegin) => {
    const step = decode(context, (check) => decoders.decodeRecordStep(check, request, begin));
    const outcome = await commands.recordStep(step);
    switch (outcome.kind) {
      case 'recorded':
      case 'already_recorded':
        return stepFinished(outcome);
      default:
        throw beginRefused(step, outcome);
    }
  };

  return {
    async beginStep(request) {
      const step = decode(context, (check) => decoders.decodeBeginStep(check, request));
      const timeoutMs = step.timeoutMs === 0 ? 0 : step.timeoutMs + config.stepTimeoutGraceMs;
      const outcome = await commands.beginStep({ ...step, timeoutMs });
      switch (outcome.kind) {
        case 'begun':
        case 'already_begun':
          return { startedAt: timestampOf(outcome.startedAt) };
        default:
          throw beginRefused(step, outcome);
      }
    },

    completeStep(request) {
      return request.begin === undefined ? completeStep(request) : recordStep(request, request.begin);
    },

    async failStep(request) {
      const step = decode(context, (check) => decoders.decodeFailStep(check, request));
      const outcome = await commands.failStep(step);
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
        default:
          throw fenceRefused(step, outcome);
      }
    },

    async settleStep(request) {
      const step = decode(context, (check) => decoders.decodeSettleStep(check, request));
      const outcome = await commands.settleStep(step);
      switch (outcome.kind) {
        case 'settled':
        case 'already_settled':
          return { finishedAt: timestampOf(outcome.finishedAt) };
        case 'cancel_not_requested':
          throw cancelNotRequested(step.runId);
        case 'step_mismatch':
          throw stepMismatch(step.runId, step.stepId, { kind: step.stepKind, seq: step.seq }, outcome);
        case 'wrong_attempt':
          throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
        default:
          throw fenceRefused(step, outcome);
      }
    },

    async scheduleSleep(request) {
      const sleep = decode(context, (check) => decoders.decodeScheduleSleep(check, request));
      const outcome = await commands.scheduleSleep(sleep);
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
        case 'cancel_requested':
          throw cancelRequested(sleep.runId);
        default:
          throw fenceRefused(sleep, outcome);
      }
    },
  };
}

/** Why an attempt may not begin. */
function beginRefused(
  step: BeginStep | RecordStep,
  outcome: Exclude<BeginStepOutcome, { readonly kind: 'begun' | 'already_begun' }>,
): RpcError {
  switch (outcome.kind) {
    case 'step_mismatch':
      return stepMismatch(step.runId, step.stepId, { kind: step.stepKind, seq: step.seq }, outcome);
    case 'wrong_attempt':
      return wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
    case 'cancel_requested':
      return cancelRequested(step.runId);
    default:
      return fenceRefused(step, outcome);
  }
}

interface Finished {
  readonly finishedAt: Date;
  readonly cancelRequested: boolean;
}

let lastFinished: Finished | undefined;
let lastAnswer: MessageInitShape<typeof CompleteStepResponseSchema> = {};

/** Steps of one batch share an outcome, and so the answer to it, which a session encodes once. */
function stepFinished(outcome: Finished): MessageInitShape<typeof CompleteStepResponseSchema> {
  if (outcome !== lastFinished) {
    lastAnswer = { finishedAt: timestampOf(outcome.finishedAt), cancelRequested: outcome.cancelRequested };
    lastFinished = outcome;
  }
  return lastAnswer;
}
