/**
 * Finds runs whose end was not passed on to their relatives, because the process that recorded it died or was overloaded. Ends of the
 * last moments are left to the process that recorded them.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

const UNTOLD = defineStatement(
  'untold_children',
  `select e.child_id as run_id from perdure.child_ends e
  where e.ended_at <= perdure.clock() - $2::int * interval '1 ms'
  order by e.ended_at
  limit $1`,
);

const UNCLOSED = defineStatement(
  'unclosed_parents',
  `select r.run_id from perdure.workflow_runs r
  where r.has_children and r.finished_at is not null and r.finished_at <= perdure.clock() - $2::int * interval '1 ms'
  order by r.finished_at
  limit $1`,
);

interface Options {
  /** Most runs. */
  readonly limit: number;
  /** How long ago they ended at least, in ms. */
  readonly minAgeMs: number;
}

/** @returns ended children whose parent was not told, the oldest first */
export async function untoldChildren(db: Database, { limit, minAgeMs }: Options): Promise<readonly string[]> {
  return (await db.query<{ run_id: string }>(UNTOLD, [limit, minAgeMs])).map(({ run_id }) => run_id);
}

/** @returns ended parents whose children were not closed, the oldest first */
export async function unclosedParents(db: Database, { limit, minAgeMs }: Options): Promise<readonly string[]> {
  return (await db.query<{ run_id: string }>(UNCLOSED, [limit, minAgeMs])).map(({ run_id }) => run_id);
}
