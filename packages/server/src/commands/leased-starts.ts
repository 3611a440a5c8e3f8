import { type ClaimedRun, type Database, type StartRun, type StartRunOutcome, startRuns } from '@perdure/store';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { Wakeups } from '../dispatch/wakeups.js';

/** What a start needs beside the database: the polls that wait here, and those who will await the run's end. */
export interface StartHands {
  readonly dispatcher: Pick<Dispatcher, 'reserve'>;
  readonly wakeups: Pick<Wakeups, 'starting' | 'notStarted'>;
}

/** Starts runs. Those that a worker waits for are leased with the statement that inserts them. */
export async function startLeased(
  db: Database,
  starts: readonly StartRun[],
  { dispatcher, wakeups }: StartHands,
): Promise<readonly StartRunOutcome[]> {
  const reservation = dispatcher.reserve(starts);
  // Before the commit: from then on anyone may end them.
  for (const start of starts) wakeups.starting(start);
  let claims: (ClaimedRun | null)[] = [];
  try {
    const outcomes = await startRuns(db, starts, reservation.slots);
    claims = outcomes.map((outcome) => (outcome.kind === 'started' ? outcome.claim : null));
    starts.forEach(({ runId }, index) => {
      if (outcomes[index]?.kind !== 'started') wakeups.notStarted(runId);
    });
    return outcomes;
  } catch (error) {
    for (const { runId } of starts) wakeups.notStarted(runId);
    throw error;
  } finally {
    reservation.settle(claims);
  }
}
