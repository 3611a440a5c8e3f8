/**
 * Reapers announce that they are alive, so that people see when none is. The sweeps do not read this: each locks its own rows, for
 * any number of reapers.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

/** A reaper is alive while its last announcement is younger than this. */
export const REAPER_SILENCE_MS = 10_000;

const ANNOUNCE_REAPER = defineStatement(
  'announce_reaper',
  `with announced as (
    insert into perdure.reapers (reaper_id, identity, started_at, last_seen_at)
    values ($1::uuid, $2, perdure.clock(), perdure.clock())
    on conflict (reaper_id) do update set last_seen_at = perdure.clock()
    returning 1
  ),
  forgotten as (
    delete from perdure.reapers r where r.last_seen_at < perdure.clock() - interval '1 hour' and r.reaper_id <> $1::uuid
    returning 1
  )
  select count(*)::int as announced from announced`,
);

const RETIRE_REAPER = defineStatement('retire_reaper', 'delete from perdure.reapers where reaper_id = $1::uuid');

/** Announces a reaper, and deletes reapers that have been silent for an hour. */
export async function announceReaper(
  db: Database,
  reaper: { readonly reaperId: string; readonly identity: string },
): Promise<void> {
  await db.query(ANNOUNCE_REAPER, [reaper.reaperId, reaper.identity]);
}

/** Deletes a reaper that stops. */
export async function retireReaper(db: Database, reaperId: string): Promise<void> {
  await db.query(RETIRE_REAPER, [reaperId]);
}
