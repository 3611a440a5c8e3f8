/** Reads the reapers that are alive. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import { REAPER_SILENCE_MS } from '../transitions/announce-reapers.js';
import type { Reaper } from './queries.js';

const LIST_REAPERS = defineStatement(
  'list_reapers',
  `select r.reaper_id, r.identity, r.started_at, r.last_seen_at from perdure.reapers r
  where r.last_seen_at >= perdure.clock() - $1::int * interval '1 ms'
  order by r.started_at, r.reaper_id
  limit 100`,
);

interface Row {
  readonly reaper_id: string;
  readonly identity: string;
  readonly started_at: Date;
  readonly last_seen_at: Date;
}

/** @returns at most 100 reapers, the oldest first */
export async function listReapers(db: Reader): Promise<readonly Reaper[]> {
  const rows = await db.query<Row>(LIST_REAPERS, [REAPER_SILENCE_MS]);
  return rows.map((row) => ({
    reaperId: row.reaper_id,
    identity: row.identity,
    startedAt: row.started_at,
    lastSeenAt: row.last_seen_at,
  }));
}
