import { chainEnd, type RunStatus } from '@perdure/store';
import type { ServerContext } from '../context.js';

/** What a command answers about a run that has continued as another one. */
type Refusal = { readonly kind: 'wrong_state' | 'run_closed'; readonly status: RunStatus };

/**
 * Carries out a command on a run; when that was continued, on the run that its chain has come to.
 *
 * @returns the run of the answer, and the answer
 */
export async function followingChain<Outcome extends { readonly kind: string }>(
  context: ServerContext,
  firstRunId: string,
  submit: (runId: string) => Promise<Outcome>,
): Promise<{ readonly runId: string; readonly outcome: Outcome }> {
  for (let runId = firstRunId; ; ) {
    const outcome = await submit(runId);
    if (!wasContinued(outcome)) return { runId, outcome };
    const next = await chainEnd(context.db, runId);
    if (next === null) return { runId, outcome };
    runId = next;
  }
}

function wasContinued(outcome: { readonly kind: string }): boolean {
  const { kind, status } = outcome as Refusal;
  return (kind === 'wrong_state' || kind === 'run_closed') && status === 'CONTINUED';
}
