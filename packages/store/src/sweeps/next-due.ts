/** Tells the reaper how long it may sleep, by the database's clock. */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

const NEXT_WAKE = defineStatement(
  'next_wake',
  `select (extract(epoch from min(r.wake_at) - perdure.clock()) * 1000)::float8 as due_in_ms
  from perdure.workflow_runs r where r.wake_at is not null`,
);

const NEXT_EXPIRY = defineStatement(
  'next_expiry',
  // Of attempts only deadlines to come: one that has passed is the sweep's, or waits for a sign of life or the end of a lease.
  `select (extract(epoch from least(
      (select min(r.lease_expires_at) from perdure.workflow_runs r where r.status = 'RUNNING'),
      (select min(r.deadline_at) from perdure.workflow_runs r where r.deadline_at is not null and r.finished_at is null),
      (select min(s.deadline_at) from perdure.step_runs s where s.deadline_at > perdure.clock())
    ) - perdure.clock()) * 1000)::float8 as due_in_ms`,
);

/** @returns ms until the next sleeper wakes, 0 or less when one is due already; null when there is none */
export async function nextWakeMs(db: Database): Promise<number | null> {
  const [row] = await db.query<{ due_in_ms: number | null }>(NEXT_WAKE, []);
  return row?.due_in_ms ?? null;
}

/** @returns ms until the next lease or deadline expires, 0 or less when one has; null when there is none */
export async function nextExpiryMs(db: Database): Promise<number | null> {
  const [row] = await db.query<{ due_in_ms: number | null }>(NEXT_EXPIRY, []);
  return row?.due_in_ms ?? null;
}
