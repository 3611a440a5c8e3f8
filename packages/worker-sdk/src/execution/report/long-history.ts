import type { RunFacts } from '../run/run-facts.js';

/** Steps of a run from which on every replay is slow. */
export const LONG_HISTORY = 10_000;

export function reportLongHistory({ log, run }: RunFacts): void {
  log.warn(
    { event: 'long_history', workflowId: run.workflowId, steps: LONG_HISTORY },
    `The run has ${LONG_HISTORY.toLocaleString('en')} steps, and each replay reads all of them. End it with ctx.continueAsNew(input) from time to time.`,
  );
}
