import type { WorkflowService } from '@perdure/proto';
import {
  readRunState,
  type SendSignal,
  type SendSignalOutcome,
  type SignalWithStart,
  type SignalWithStartOutcome,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decodeSignalRun } from '../rpc/decode/arrival-requests.js';
import { decode } from '../rpc/decode/decode.js';
import { decodeSignalWithStart } from '../rpc/decode/update-requests.js';
import { decodeRunRef, refText } from '../rpc/decode/workflow-requests.js';
import { optionalPayload } from '../rpc/encode/payload.js';
import { optionalTimestamp } from '../rpc/encode/time.js';
import { namespaceNotFound, runClosed, runNotFound, tooManySignals, workflowAlreadyExists } from '../rpc/outcomes.js';
import { runIdOf } from './find-run.js';
import { followingChain } from './follow-chain.js';
import { updateRun } from './update-run.js';

/** RPCs that send something to a run, and that read what it shows. */
export function messages(
  context: ServerContext,
): Pick<Handlers<typeof WorkflowService>, 'signalRun' | 'signalWithStart' | 'updateRun' | 'getRunState'> {
  const { commands, config, reads } = context;
  return {
    async signalRun(request) {
      const { ref, ...signal } = decode(context, (check) => decodeSignalRun(check, request));
      const command = { ...signal, namespace: ref.namespace, maxUnconsumed: config.maxUnconsumedSignals };
      const named = await runIdOf(context, ref);
      const { runId, outcome } = await followingChain(context, named, (of) =>
        commands.sendSignal({ ...command, runId: of }),
      );
      return signalSent({ ...command, runId }, outcome);
    },

    async signalWithStart(request) {
      const command = {
        ...decode(context, (check) => decodeSignalWithStart(check, request)),
        maxUnconsumed: config.maxUnconsumedSignals,
      };
      return signalledWithStart(command, await commands.signalWithStart(command));
    },

    updateRun: (request, call) => updateRun(context, request, call),

    async getRunState(request, call) {
      const ref = decode(context, (check) => decodeRunRef(check, request));
      const runId = await runIdOf(context, ref);
      const state = await readRunState(reads.for(call), { namespace: ref.namespace, runId });
      if (state === null) throw runNotFound(refText(ref));
      return { runId, ...optionalPayload('state', state.value), ...optionalTimestamp('updatedAt', state.updatedAt) };
    },
  };
}

function signalSent({ runId }: SendSignal, outcome: SendSignalOutcome) {
  switch (outcome.kind) {
    case 'sent':
      return { runId, seq: outcome.seq };
    case 'already_sent':
      return { runId, seq: outcome.seq, alreadySent: true };
    case 'run_closed':
      throw runClosed(runId, outcome.status);
    case 'too_many_signals':
      throw tooManySignals(runId, outcome.max);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function signalledWithStart({ start }: SignalWithStart, outcome: SignalWithStartOutcome) {
  const { workflowId } = start;
  switch (outcome.kind) {
    case 'sent':
    case 'already_sent': {
      const { runId, seq, started } = outcome;
      return { runId, workflowId, seq, created: started, alreadySent: outcome.kind === 'already_sent' };
    }
    case 'already_exists':
      throw workflowAlreadyExists(workflowId, outcome);
    case 'too_many_signals':
      throw tooManySignals(outcome.runId, outcome.max);
    case 'namespace_not_found':
      throw namespaceNotFound(start.namespace);
  }
}
