import { chainEnd, type FoundRun, type RunEnd, type RunRef } from '@perdure/store';
import type { Call } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { refText } from '../rpc/decode/workflow-requests.js';
import { runNotFound } from '../rpc/outcomes.js';

/**
 * Waits until a run has ended. Subscribes first and reads then, so no end is missed; when the notification is lost, the fallback
 * read of the waiters finds the end. When the run has continued as another one, it waits for the end of the chain.
 *
 * @param waitMs longest wait
 * @returns the run; `end` is null if the wait passed, the caller left or the server stopped first
 * @throws {RpcError} RUN_NOT_FOUND
 */
export async function awaitRun(context: ServerContext, ref: RunRef, waitMs: number, call: Call): Promise<FoundRun> {
  const untilMs = performance.now() + waitMs;
  for (let next = ref; ; ) {
    const found = await awaitOne(context, next, Math.max(0, untilMs - performance.now()), call);
    if (found.end?.status !== 'CONTINUED') return found;
    const runId = await chainEnd(context.db, found.runId);
    if (runId === null) return found;
    next = { namespace: ref.namespace, runId, workflowId: null };
  }
}

async function awaitOne(
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
