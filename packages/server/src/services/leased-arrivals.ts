import type { MessageInitShape } from '@bufbuild/protobuf';
import type { AwaitStepResponseSchema, TakeArrivalsResponseSchema, WorkerService } from '@perdure/proto';
import type {
  AnswerUpdate,
  AnswerUpdateOutcome,
  AwaitStep,
  AwaitStepOutcome,
  SetRunState,
  SetRunStateOutcome,
  TakeArrivals,
  TakeArrivalsOutcome,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decodeAwaitStep, decodeTakeArrivals } from '../rpc/decode/arrival-requests.js';
import { decodeAnswerUpdate, decodeSetRunState } from '../rpc/decode/update-requests.js';
import { arrivalMessage } from '../rpc/encode/model.js';
import { durationOf } from '../rpc/encode/time.js';
import {
  cancelRequested,
  fenceRefused,
  runPaused,
  stepMismatch,
  updateNotFound,
  wrongAttempt,
} from '../rpc/outcomes.js';
import { answering } from './answering.js';

/** RPCs about what comes from outside to runs that a worker holds, and what they show and answer. */
export function leasedArrivals(
  context: ServerContext,
): Pick<Handlers<typeof WorkerService>, 'awaitStep' | 'takeArrivals' | 'answerUpdate' | 'setRunState'> {
  const { commands } = context;
  return {
    awaitStep: answering(context, decodeAwaitStep, commands.awaitStep, stepAwaited),
    takeArrivals: answering(context, decodeTakeArrivals, commands.takeArrivals, arrivalsTaken),
    answerUpdate: answering(context, decodeAnswerUpdate, commands.answerUpdate, updateAnswered),
    setRunState: answering(context, decodeSetRunState, commands.setRunState, stateSet),
  };
}

function stepAwaited(step: AwaitStep, outcome: AwaitStepOutcome): MessageInitShape<typeof AwaitStepResponseSchema> {
  switch (outcome.kind) {
    case 'waiting':
      return {
        attemptNumber: outcome.attemptNumber,
        ...(outcome.remainingMs === null ? {} : { remaining: remainingOf(outcome.remainingMs) }),
      };
    case 'arrived':
      return {
        attemptNumber: outcome.attemptNumber,
        arrival: arrivalMessage({ stepId: step.stepId, ...outcome }),
      };
    case 'step_mismatch':
      throw stepMismatch(step.runId, step.stepId, { kind: step.stepKind, seq: step.seq }, outcome);
    case 'wrong_attempt':
      throw wrongAttempt(step.runId, step.stepId, step.attemptNumber, outcome);
    case 'paused':
      throw runPaused(step.runId);
    case 'cancel_requested':
      throw cancelRequested(step.runId);
    default:
      throw fenceRefused(step, outcome);
  }
}

function arrivalsTaken(
  command: TakeArrivals,
  outcome: TakeArrivalsOutcome,
): MessageInitShape<typeof TakeArrivalsResponseSchema> {
  if (outcome.kind !== 'taken') throw fenceRefused(command, outcome);
  return {
    arrivals: outcome.arrivals.map(arrivalMessage),
    hasMore: outcome.hasMore,
    notDue: outcome.notDue.map(({ stepId, remainingMs }) => ({ stepId, remaining: remainingOf(remainingMs) })),
  };
}

function updateAnswered(command: AnswerUpdate, outcome: AnswerUpdateOutcome) {
  switch (outcome.kind) {
    case 'answered':
    case 'already_answered':
      return { alreadyAnswered: outcome.kind === 'already_answered' };
    case 'update_not_found':
      throw updateNotFound(command.runId, command.stepId);
    default:
      throw fenceRefused(command, outcome);
  }
}

function stateSet(command: SetRunState, outcome: SetRunStateOutcome): Record<string, never> {
  if (outcome.kind !== 'set') throw fenceRefused(command, outcome);
  return {};
}

const remainingOf = (ms: number) => durationOf(Math.max(0, Math.ceil(ms)));
