import type { PromiseState, WorkflowService } from '@perdure/proto';
import { getPromise, listPromises, type SettlePromise, type SettlePromiseOutcome } from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import {
  decodeListPromises,
  decodePromiseRef,
  decodeRejectPromise,
  decodeResolvePromise,
  promiseCursorFields,
  promiseScope,
} from '../rpc/decode/promise-requests.js';
import { promiseMessage, promiseStateNumber, settledState } from '../rpc/encode/events.js';
import { promiseNotFound } from '../rpc/outcomes.js';
import { answering } from './answering.js';
import { checkNamespace } from './check-namespace.js';

/** RPCs about promises of runs. */
export function promises(
  context: ServerContext,
): Pick<Handlers<typeof WorkflowService>, 'resolvePromise' | 'rejectPromise' | 'getPromise' | 'listPromises'> {
  const { commands, reads } = context;
  return {
    resolvePromise: answering(context, decodeResolvePromise, commands.settlePromise, promiseSettled),
    rejectPromise: answering(context, decodeRejectPromise, commands.settlePromise, promiseSettled),

    async getPromise(request, call) {
      const ref = decode(context, (check) => decodePromiseRef(check, request));
      const promise = await getPromise(reads.for(call), ref);
      if (promise === null) throw promiseNotFound(ref.promiseId);
      return { promise: promiseMessage(promise) };
    },

    async listPromises(request, call) {
      const { filter, limit, after } = decode(context, (check) => decodeListPromises(check, request));
      const from = reads.for(call);
      const page = await listPromises(from, filter, { limit, after });
      if (page.promises.length === 0) await checkNamespace(from, filter.namespace);
      return {
        promises: page.promises.map(promiseMessage),
        nextPageToken: page.next === null ? '' : encodePageToken(promiseScope(filter), promiseCursorFields(page.next)),
      };
    },
  };
}

function promiseSettled(
  { promiseId, outcome: asked }: SettlePromise,
  outcome: SettlePromiseOutcome,
): { readonly alreadySettled: boolean; readonly state: PromiseState } {
  switch (outcome.kind) {
    case 'promise_not_found':
      throw promiseNotFound(promiseId);
    case 'settled':
      return {
        alreadySettled: false,
        state: promiseStateNumber[asked.kind === 'resolved' ? 'RESOLVED' : 'REJECTED'],
      };
    case 'already_settled':
      return { alreadySettled: true, state: promiseStateNumber[settledState(outcome.status)] };
  }
}
