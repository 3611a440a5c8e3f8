import type { WorkflowService } from '@perdure/proto';
import type { SendSignal, SendSignalOutcome } from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decodeSignalRun } from '../rpc/decode/arrival-requests.js';
import { decode } from '../rpc/decode/decode.js';
import { runClosed, runNotFound, tooManySignals } from '../rpc/outcomes.js';
import { runIdOf } from './find-run.js';

/** RPCs that send something to a run. */
export function messages(context: ServerContext): Pick<Handlers<typeof WorkflowService>, 'signalRun'> {
  const { commands, config } = context;
  return {
    async signalRun(request) {
      const { ref, ...signal } = decode(context, (check) => decodeSignalRun(check, request));
      const command = {
        ...signal,
        namespace: ref.namespace,
        runId: await runIdOf(context, ref),
        maxUnconsumed: config.maxUnconsumedSignals,
      };
      return signalSent(command, await commands.sendSignal(command));
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
