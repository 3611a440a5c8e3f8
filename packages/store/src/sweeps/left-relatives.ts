/**
 * Finds runs whose end, or whose cut of steps that waited for children, was not passed on to their relatives, because the process that
 * recorded it died or was overloaded. What happened in the last moments is left to the process that recorded it.
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
  `select p.run_id from (
    (select r.run_id, r.finished_at as since from perdure.workflow_runs r
    where r.has_children and r.finished_at is not null and r.finished_at <= perdure.clock() - $2::int * interval '1 ms'
    order by r.finished_at
    limit $1)
    union all
    (select c.run_id, c.cut_at from perdure.child_cuts c
    where c.cut_at <= perdure.clock() - $2::int * interval '1 ms'
    order by c.cut_at
    limit $1)
  ) p
  group by p.run_id
  order by min(p.since)
  limit $1`,
);

interface Options {
  /** Most runs. */
  readonly limit: number;
  /** How long ago they ended or were cut, at least, in ms. */
  readonly minAgeMs: number;
}

/** @returns ended children whose parent was not told, the oldest first */
export async function untoldChildren(db: Database, { limit, minAgeMs }: Options): Promise<readonly string[]> {
  return (await db.query<{ run_id: string }>(UNTOLD, [limit, minAgeMs])).map(({ run_id }) => run_id);
}

/** @returns parents whose children were not closed since they have ended or were cut, the oldest first */
export async function unclosedParents(db: Database, { limit, minAgeMs }: Options): Promise<readonly string[]> {
  return (await db.query<{ run_id: string }>(UNCLOSED, [limit, minAgeMs])).map(({ run_id }) => run_id);
}
