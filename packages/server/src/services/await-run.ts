import type { Run } from '@perdure/store';
import type { ServerContext } from '../context.js';

/**
 * Waits until a run has ended. Subscribes first and looks then, so no end is missed; with no news at all the fallback look
 * of the waiters finds it.
 *
 * @param found the run as just read
 * @returns the run as it is when it has ended, the wait is over, the caller is gone or the server goes down
 */
export async function awaitRun(
  { commands, endWaiters, stopping }: ServerContext,
  found: Run,
  { waitMs, signal }: { readonly waitMs: number; readonly signal: AbortSignal },
): Promise<Run> {
  if (found.finishedAt !== null) return found;
  const ref = { namespace: found.namespace, runId: found.runId, workflowId: null };
  let wake: () => void = () => undefined;
  const ended = new Promise<void>((resolve) => {
    wake = resolve;
  });
  const subscription = endWaiters.subscribe(found.runId, wake);
  const timer = setTimeout(wake, waitMs);
  signal.addEventListener('abort', wake, { once: true });
  stopping.addEventListener('abort', wake, { once: true });
  try {
    const run = (await commands.findRun(ref)) ?? found;
    if (run.finishedAt !== null || signal.aborted) return run;
    await ended;
    return signal.aborted ? run : ((await commands.findRun(ref)) ?? run);
  } finally {
    clearTimeout(timer);
    subscription.cancel();
    signal.removeEventListener('abort', wake);
    stopping.removeEventListener('abort', wake);
  }
}
