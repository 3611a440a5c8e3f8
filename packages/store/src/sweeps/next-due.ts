/** How long the reaper may sleep, by the database's clock. */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

const NEXT_WAKE = defineStatement(
  'next_wake',
  `select (extract(epoch from min(r.wake_at) - perdure.clock()) * 1000)::float8 as due_in_ms
  from perdure.workflow_runs r where r.wake_at is not null`,
);

const NEXT_EXPIRY = defineStatement(
  'next_expiry',
  // Only future deadlines of attempts: a past one is for the sweep, or waits for a renewal or the end of a lease.
  `select (extract(epoch from least(
      (select min(r.lease_expires_at) from perdure.workflow_runs r where r.status = 'RUNNING'),
      (select min(r.deadline_at) from perdure.workflow_runs r where r.deadline_at is not null and r.finished_at is null),
      (select min(s.deadline_at) from perdure.step_runs s where s.deadline_at > perdure.clock())
    ) - perdure.clock()) * 1000)::float8 as due_in_ms`,
);

/** @returns ms until the next sleeping run is due, 0 or less when one is; null when there is none */
export async function nextWakeMs(db: Database): Promise<number | null> {
  const [row] = await db.query<{ due_in_ms: number | null }>(NEXT_WAKE, []);
  return row?.due_in_ms ?? null;
}

/** @returns ms until the next lease or deadline expires, 0 or less when one has; null when there is none */
export async function nextExpiryMs(db: Database): Promise<number | null> {
  const [row] = await db.query<{ due_in_ms: number | null }>(NEXT_EXPIRY, []);
  return row?.due_in_ms ?? null;
}
