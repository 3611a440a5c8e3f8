/** Tells the reaper how long it may sleep: the time until the next thing falls due, by the database's clock. */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

const NEXT_DUE = defineStatement(
  'next_due',
  `select (extract(epoch from least(
      (select min(r.wake_at) from perdure.workflow_runs r where r.wake_at is not null),
      (select min(r.locked_until) from perdure.workflow_runs r where r.status = 'RUNNING'),
      (select min(r.deadline_at) from perdure.workflow_runs r where r.deadline_at is not null and r.finished_at is null),
      (select min(s.deadline_at) from perdure.step_runs s where s.deadline_at is not null)
    ) - perdure.clock()) * 1000)::float8 as due_in_ms`,
);

/** @returns ms until the next due time, 0 or less when something is due already; null when nothing is in sight */
export async function nextDueMs(db: Database): Promise<number | null> {
  const [row] = await db.query<{ due_in_ms: number | null }>(NEXT_DUE, []);
  return row?.due_in_ms ?? null;
}
