import type { FoundRun, RunEnd, RunRef } from '@perdure/store';
import type { ServerContext } from '../context.js';
import { refText } from '../rpc/decode/workflow-requests.js';
import { runNotFound } from '../rpc/outcomes.js';

/**
 * Waits until a run has ended. Subscribes first and looks then, so no end is missed; with no news at all the fallback look
 * of the waiters finds it.
 *
 * @returns the run, with its end unless the wait was over, the caller gone or the server going down before that
 * @throws {RpcError} RUN_NOT_FOUND
 */
export async function awaitRun(
  { commands, endWaiters, stopping }: ServerContext,
  ref: RunRef,
  { waitMs, signal }: { readonly waitMs: number; readonly signal: AbortSignal },
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
  const onStop = () => wake();
  const subscription = endWaiters.subscribe(runId, wake);
  const timer = setTimeout(wake, waitMs);
  signal.addEventListener('abort', onStop, { once: true });
  stopping.addEventListener('abort', onStop, { once: true });
  try {
    const open = endWaiters.openRun(runId);
    const found = open?.namespace === namespace ? { runId, workflowId: open.workflowId, end: null } : await look();
    if (found.end !== null || signal.aborted) return found;
    const end = await ended;
    if (end !== undefined) return { ...found, end };
    return signal.aborted ? found : await look();
  } finally {
    clearTimeout(timer);
    subscription.cancel();
    signal.removeEventListener('abort', onStop);
    stopping.removeEventListener('abort', onStop);
  }
}
