import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type CompleteWorkflowRequest,
  type FailWorkflowRequest,
  type FinalStep,
  RunStatus,
  type SuspendRunResponseSchema,
  type WorkerService,
} from '@perdure/proto';
import {
  type BeginCompensationOutcome,
  type ContinueRun,
  type ContinueRunOutcome,
  type EndRun,
  type EndRunOutcome,
  type EndRunWithStep,
  type EndRunWithStepOutcome,
  type FenceOutcome,
  type HoldRun,
  type HoldRunOutcome,
  type LeaseRef,
  type ObserveCancel,
  type ObserveCancelOutcome,
  type ReleaseRun,
  type ReleaseRunOutcome,
  readMemo,
  readMemoOf,
  type SuspendRun,
  type SuspendRunOutcome,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { MEMO_PAGE_LIMITS } from '../limits.js';
import { decode } from '../rpc/decode/decode.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import * as decoders from '../rpc/decode/worker-requests.js';
import { memoMessage } from '../rpc/encode/model.js';
import { shared } from '../rpc/encode/shared-answer.js';
import { optionalTimestamp } from '../rpc/encode/time.js';
import { cancelNotRequested, fenceRefused, isFenceRefusal, unknownWait } from '../rpc/outcomes.js';
import { answering } from './answering.js';
import { beginRefused } from './leased-steps.js';

/** RPCs about runs that a worker holds: their memo, and how they are given back or end. */
export function leasedRuns(
  context: ServerContext,
): Pick<
  Handlers<typeof WorkerService>,
  | 'getMemo'
  | 'beginCompensation'
  | 'observeCancel'
  | 'suspendRun'
  | 'completeWorkflow'
  | 'failWorkflow'
  | 'confirmCancel'
  | 'continueWorkflow'
  | 'releaseRun'
  | 'holdRun'
> {
  const { db, commands } = context;
  const completeWorkflow = answering(context, decoders.decodeCompleteWorkflow, commands.endRun, runEnded);
  const endWithStep = async (request: CompleteWorkflowRequest, step: FinalStep) => {
    const command = decode(context, (check) => decoders.decodeEndWithStep(check, request, step));
    return runEndedWithStep(command, await commands.endRunWithStep(command));
  };
  return {
    async getMemo(request) {
      const wanted = decode(context, (check) => decoders.decodeGetMemo(check, request));
      const { lease } = wanted;
      const outcome =
        'stepIds' in wanted
          ? await readMemoOf(db, lease, wanted.stepIds)
          : await readMemo(db, lease, wanted.cursor, MEMO_PAGE_LIMITS);
      if (outcome.kind !== 'page') throw fenceRefused(lease, outcome);
      const { memo, next } = outcome.page;
      return {
        memo: memo.map(memoMessage),
        nextMemoToken: next === null ? '' : encodePageToken(decoders.memoScope(lease), [next.entries, next.bytes]),
      };
    },
    beginCompensation: answering(
      context,
      decoders.decodeBeginCompensation,
      commands.beginCompensation,
      compensationBegun,
    ),
    observeCancel: answering(context, decoders.decodeObserveCancel, commands.observeCancel, cancelObserved),
    suspendRun: answering(context, decoders.decodeSuspendRun, commands.suspendRun, runSuspended),
    completeWorkflow: (request) =>
      request.finalStep === undefined ? completeWorkflow(request) : endWithStep(request, request.finalStep),
    async failWorkflow(request: FailWorkflowRequest) {
      const failing = decode(context, (check) => decoders.decodeFailWorkflow(check, request));
      if (failing.kind === 'fail') {
        runEnded(failing.command, await commands.endRun(failing.command));
        return { status: RunStatus.FAILED };
      }
      refuseIfFenced(failing.command, await commands.retryRunAttempt(failing.command));
      return { status: RunStatus.SLEEPING };
    },
    continueWorkflow: answering(context, decoders.decodeContinueWorkflow, commands.continueRun, runContinued),
    confirmCancel: answering(context, decoders.decodeConfirmCancel, commands.endRun, runEnded),
    releaseRun: answering(context, decoders.decodeReleaseRun, commands.releaseRun, runReleased),
    holdRun: answering(context, decoders.decodeHoldRun, commands.holdRun, runHeld),
  };
}

const ACKNOWLEDGED = shared({});

function runEnded(command: EndRun, outcome: EndRunOutcome): typeof ACKNOWLEDGED {
  if (outcome.kind === 'cancel_not_requested') throw cancelNotRequested(command.runId);
  refuseIfFenced(command, outcome);
  return ACKNOWLEDGED;
}

function runEndedWithStep({ step, end }: EndRunWithStep, outcome: EndRunWithStepOutcome): typeof ACKNOWLEDGED {
  switch (outcome.kind) {
    case 'step_mismatch':
    case 'wrong_attempt':
    case 'ended_by_hand':
    case 'cancel_requested':
    case 'paused':
      throw beginRefused(step, outcome);
    default:
      return runEnded(end, outcome);
  }
}

function cancelObserved(command: ObserveCancel, outcome: ObserveCancelOutcome): typeof ACKNOWLEDGED {
  if (outcome.kind === 'cancel_not_requested') throw cancelNotRequested(command.runId);
  refuseIfFenced(command, outcome);
  return ACKNOWLEDGED;
}

function compensationBegun(lease: LeaseRef, outcome: BeginCompensationOutcome): typeof ACKNOWLEDGED {
  refuseIfFenced(lease, outcome);
  return ACKNOWLEDGED;
}

function runContinued(command: ContinueRun, outcome: ContinueRunOutcome): { readonly nextRunId: string } {
  switch (outcome.kind) {
    case 'continued':
    case 'already_continued':
      return { nextRunId: outcome.nextRunId };
    default:
      throw fenceRefused(command, outcome);
  }
}

function runReleased(command: ReleaseRun, outcome: ReleaseRunOutcome): typeof ACKNOWLEDGED {
  refuseIfFenced(command, outcome);
  return ACKNOWLEDGED;
}

function runHeld(command: HoldRun, outcome: HoldRunOutcome): typeof ACKNOWLEDGED {
  refuseIfFenced(command, outcome);
  return ACKNOWLEDGED;
}

function runSuspended(
  command: SuspendRun,
  outcome: SuspendRunOutcome,
): MessageInitShape<typeof SuspendRunResponseSchema> {
  switch (outcome.kind) {
    case 'suspended':
    case 'already_suspended':
      return { suspended: true, ...optionalTimestamp('wakeAt', outcome.wakeAt) };
    case 'not_suspended':
      return {
        readyStepIds: [...outcome.readyStepIds],
        cancelRequested: outcome.cancelRequested,
        hasArrivals: outcome.hasArrivals,
      };
    case 'unknown_wait':
      throw unknownWait(command.runId, outcome.stepIds);
    default:
      throw fenceRefused(command, outcome);
  }
}

function refuseIfFenced(lease: LeaseRef, outcome: FenceOutcome | { readonly kind: string }): void {
  if (isFenceRefusal(outcome)) throw fenceRefused(lease, outcome);
}
