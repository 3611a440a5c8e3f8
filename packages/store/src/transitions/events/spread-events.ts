/**
 * Continues to give events to the waits that were open when they were published: the oldest events whose waits have not all received
 * them, to a bounded number of waits. Repeat it while there is more. Servers call it after PublishEvent, the reaper after a crash; an
 * advisory lock admits one caller at a time for each name and key, so that waits receive those events in the order of their publication.
 * The whole SQL is the function `perdure.spread_events`.
 *
 * Nobody gets an event twice: a wait ends with the first event that it receives, and a wait that its run began after it had
 * received the event is passed over.
 */
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import { type ArrivalRow, arrivalEffect, type ReachedRun } from '../parts/arrival-effect.js';
import { MAX_SPREAD_BYTES, MAX_SPREAD_STEPS } from './publish-events.js';

const SPREAD_EVENTS = defineStatement('spread_events', 'select * from perdure.spread_events($1::int, $2::float8)');

interface Row extends ArrivalRow {
  /** Null in rows of runs. */
  readonly has_more: boolean | null;
  readonly run_id: string;
  readonly namespace: string;
}

export interface Spread {
  readonly reached: readonly ReachedRun[];
  /** Call it again. */
  readonly hasMore: boolean;
}

/** @param maxSteps most waits of this statement; default 1,000 */
export async function spreadEvents(db: Database, { maxSteps = MAX_SPREAD_STEPS } = {}): Promise<Spread> {
  const rows = await db.query<Row>(SPREAD_EVENTS, [maxSteps, MAX_SPREAD_BYTES]);
  return {
    hasMore: rows.some((row) => row.has_more === true),
    reached: rows.flatMap((row) =>
      row.has_more === null
        ? [{ namespace: row.namespace, runId: row.run_id, effect: arrivalEffect(row.namespace, row) }]
        : [],
    ),
  };
}
