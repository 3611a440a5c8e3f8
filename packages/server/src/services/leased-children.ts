import type { MessageInitShape } from '@bufbuild/protobuf';
import type { StartChildrenResponse_OutcomeSchema, WorkerService } from '@perdure/proto';
import type { StartChild, StartChildOutcome } from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decodeStartChildren } from '../rpc/decode/child-requests.js';
import { decode } from '../rpc/decode/decode.js';
import { arrivalMessage } from '../rpc/encode/model.js';
import { fenceRefused, stepMismatch, wrongAttempt } from '../rpc/outcomes.js';

/** RPCs about the children of runs that a worker holds. */
export function leasedChildren(context: ServerContext): Pick<Handlers<typeof WorkerService>, 'startChildren'> {
  const { commands } = context;
  return {
    async startChildren(request) {
      const starts = decode(context, (check) => decodeStartChildren(check, request));
      const outcomes = await Promise.all(starts.map((start) => commands.startChild(start)));
      return { outcomes: outcomes.map((outcome, index) => childStarted(starts[index] as StartChild, outcome)) };
    },
  };
}

function childStarted(
  start: StartChild,
  outcome: StartChildOutcome,
): MessageInitShape<typeof StartChildrenResponse_OutcomeSchema> {
  switch (outcome.kind) {
    case 'started':
    case 'waiting':
      return { attemptNumber: outcome.attemptNumber, childRunId: outcome.childRunId };
    case 'arrived':
      return {
        attemptNumber: outcome.attemptNumber,
        childRunId: outcome.childRunId ?? '',
        arrival: arrivalMessage({ stepId: start.stepId, ...outcome }),
      };
    case 'cancel_requested':
      return { cancelRequested: true };
    case 'paused':
      return { paused: true };
    case 'step_mismatch':
      throw stepMismatch(start.runId, start.stepId, { kind: 'CHILD', seq: start.seq }, outcome);
    case 'wrong_attempt':
      throw wrongAttempt(start.runId, start.stepId, start.attemptNumber, outcome);
    default:
      throw fenceRefused(start, outcome);
  }
}
