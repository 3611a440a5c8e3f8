import type { FoundRun, RunEnd, RunRef } from '@perdure/store';
import type { Call } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { refText } from '../rpc/decode/workflow-requests.js';
import { runNotFound } from '../rpc/outcomes.js';

/**
 * Waits until a run has ended. Subscribes first and looks then, so no end is missed; with no news at all the fallback look
 * of the waiters finds it.
 *
 * @param waitMs how long at the most
 * @returns the run, with its end unless the wait was over, the caller gone or the server going down before that
 * @throws {RpcError} RUN_NOT_FOUND
 */
export async function awaitRun(
  { commands, endWaiters }: ServerContext,
  ref: RunRef,
  waitMs: number,
  call: Call,
): Promise<FoundRun> {
  const { namespace } = ref;
  const runId = ref.runId ?? (await commands.findRun(ref))?.runId;
  if (runId === undefined) throw runNotFound(refText(ref));
  const look = async (): Promise<FoundRun> => {
    const found = await commands.findEnd({ namespace, runId });
    if (found === null) throw runNotFound(refText(ref));
    return found;
  };
  let wake: (end?: RunEnd) => void = () => undefined;
  const ended = new Promise<RunEnd | undefined>((resolve) => {
    wake = resolve;
  });
  const subscription = endWaiters.subscribe(runId, wake);
  const timer = setTimeout(wake, waitMs);
  call.onAbort(() => wake());
  try {
    const open = endWaiters.openRun(runId);
    const found = open?.namespace === namespace ? { runId, workflowId: open.workflowId, end: null } : await look();
    if (found.end !== null || call.aborted) return found;
    const end = await ended;
    if (end !== undefined) return { ...found, end };
    return call.aborted ? found : await look();
  } finally {
    clearTimeout(timer);
    subscription.cancel();
  }
}
