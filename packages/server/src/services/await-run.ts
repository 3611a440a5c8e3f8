import type { Run, RunRef } from '@perdure/store';
import type { ServerContext } from '../context.js';
import { refText } from '../rpc/decode/workflow-requests.js';
import { runNotFound } from '../rpc/outcomes.js';

/**
 * Waits until a run has ended. Subscribes first and looks then, so no end is missed; with no news at all the fallback look
 * of the waiters finds it.
 *
 * @returns the run as it is when it has ended, the wait is over, the caller is gone or the server goes down
 * @throws {RpcError} RUN_NOT_FOUND
 */
export async function awaitRun(
  { commands, endWaiters, stopping }: ServerContext,
  ref: RunRef,
  { waitMs, signal }: { readonly waitMs: number; readonly signal: AbortSignal },
): Promise<Run> {
  const find = async (by: RunRef): Promise<Run> => {
    const run = await commands.findRun(by);
    if (run === null) throw runNotFound(refText(by));
    return run;
  };
  const runId = ref.runId ?? (await find(ref)).runId;
  const byRunId = { namespace: ref.namespace, runId, workflowId: null };
  let wake: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const subscription = endWaiters.subscribe(runId, wake);
  const timer = setTimeout(wake, waitMs);
  signal.addEventListener('abort', wake, { once: true });
  stopping.addEventListener('abort', wake, { once: true });
  try {
    const run = await find(byRunId);
    if (run.finishedAt !== null || signal.aborted) return run;
    await ended;
    return signal.aborted ? run : await find(byRunId);
  } finally {
    clearTimeout(timer);
    subscription.cancel();
    signal.removeEventListener('abort', wake);
    stopping.removeEventListener('abort', wake);
  }
}
