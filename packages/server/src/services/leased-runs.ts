import { RunStatus, type WorkerService } from '@perdure/proto';
import { type FinishRun, readMemo, readMemoOf } from '@perdure/store';
import { decode, type ServerContext } from '../context.js';
import { MEMO_PAGE_LIMITS } from '../limits.js';
import { encodePageToken } from '../rpc/decode/page-token.js';
import * as decoders from '../rpc/decode/worker-requests.js';
import { memoMessage } from '../rpc/encode/model.js';
import { optionalTimestamp } from '../rpc/encode/time.js';
import type { Handlers } from '../rpc/handlers.js';
import { cancelNotRequested, fenceRefused, isFenceRefusal, unknownWait } from '../rpc/outcomes.js';

/** One object for all, so that a session encodes the answers of a batch once. */
const RECORDED = {};

/** What workers read of runs that they hold, and how such runs are given back or end. */
export function leasedRuns(
  context: ServerContext,
): Pick<
  Handlers<typeof WorkerService>,
  'getMemo' | 'observeCancel' | 'suspendRun' | 'completeWorkflow' | 'failWorkflow' | 'confirmCancel' | 'releaseRun'
> {
  const { db, commands } = context;

  const finish = async (command: FinishRun) => {
    const outcome = await commands.finishRun(command);
    if (outcome.kind === 'cancel_not_requested') throw cancelNotRequested(command.runId);
    if (isFenceRefusal(outcome)) throw fenceRefused(command, outcome);
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

    async observeCancel(request) {
      const command = decode(context, (check) => decoders.decodeObserveCancel(check, request));
      const outcome = await commands.observeCancel(command);
      if (outcome.kind === 'cancel_not_requested') throw cancelNotRequested(command.runId);
      if (isFenceRefusal(outcome)) throw fenceRefused(command, outcome);
      return {};
    },

    async suspendRun(request) {
      const command = decode(context, (check) => decoders.decodeSuspendRun(check, request));
      const outcome = await commands.suspendRun(command);
      switch (outcome.kind) {
        case 'suspended':
        case 'already_suspended':
          return { suspended: true, ...optionalTimestamp('wakeAt', outcome.wakeAt) };
        case 'not_suspended':
          return { readyStepIds: [...outcome.readyStepIds], cancelRequested: outcome.cancelRequested };
        case 'unknown_wait':
          throw unknownWait(command.runId, outcome.stepIds);
        default:
          throw fenceRefused(command, outcome);
      }
    },

    async completeWorkflow(request) {
      await finish(decode(context, (check) => decoders.decodeCompleteWorkflow(check, request)));
      return RECORDED;
    },

    async failWorkflow(request) {
      const failing = decode(context, (check) => decoders.decodeFailWorkflow(check, request));
      if (failing.kind === 'fail') {
        await finish(failing.command);
        return { status: RunStatus.FAILED };
      }
      const outcome = await commands.retryRunAttempt(failing.command);
      if (isFenceRefusal(outcome)) throw fenceRefused(failing.command, outcome);
      return { status: RunStatus.SLEEPING };
    },

    async confirmCancel(request) {
      const lease = decode(context, (check) => decoders.decodeLease(check, request));
      await finish({ ...lease, end: 'CANCELLED' });
      return {};
    },

    async releaseRun(request) {
      const command = decode(context, (check) => decoders.decodeReleaseRun(check, request));
      const outcome = await commands.releaseRun(command);
      if (isFenceRefusal(outcome)) throw fenceRefused(command, outcome);
      return {};
    },
  };
}
