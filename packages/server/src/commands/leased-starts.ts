import { type ClaimedRun, type Database, type StartRun, type StartRunOutcome, startRuns } from '@perdure/store';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { Wakeups } from '../dispatch/wakeups.js';

/** What transitions need beside the database: the waiting polls, and the callers that will wait for the end of a run that starts. */
export interface Hands {
  readonly dispatcher: Pick<Dispatcher, 'reserve' | 'reserveKeepers'>;
  readonly wakeups: Pick<Wakeups, 'onStarting' | 'onNotStarted'>;
}

/** Starts runs. When a poll waits for such a run, the statement that inserts the run also leases it. */
export async function startLeased(
  db: Database,
  starts: readonly StartRun[],
  { dispatcher, wakeups }: Hands,
): Promise<readonly StartRunOutcome[]> {
  const reservation = dispatcher.reserve(starts);
  // Before the commit, because any server may end the runs after it.
  for (const start of starts) wakeups.onStarting(start);
  let claims: (ClaimedRun | null)[] = [];
  try {
    const outcomes = await startRuns(db, starts, reservation.slots);
    claims = outcomes.map((outcome) => (outcome.kind === 'started' ? outcome.claim : null));
    starts.forEach(({ runId }, index) => {
      if (outcomes[index]?.kind !== 'started') wakeups.onNotStarted(runId);
    });
    return outcomes;
  } catch (error) {
    for (const { runId } of starts) wakeups.onNotStarted(runId);
    throw error;
  } finally {
    reservation.settle(claims);
  }
}
