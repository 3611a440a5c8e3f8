/**
 * Servers announce that they are alive. `alive_since` starts again after a silence, so that the reaper knows since when workers
 * could renew their leases.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';

/** A server is alive while its last announcement is younger than this. */
export const SERVER_SILENCE_MS = 10_000;

const ANNOUNCE_SERVER = defineStatement(
  'announce_server',
  `with announced as (
    insert into perdure.servers as s (server_id, identity, started_at, alive_since, last_seen_at)
    values ($1::uuid, $2, perdure.clock(), perdure.clock(), perdure.clock())
    on conflict (server_id) do update
    set last_seen_at = perdure.clock(),
      alive_since = case when s.last_seen_at < perdure.clock() - $3::int * interval '1 ms' then perdure.clock() else s.alive_since end
    returning 1
  ),
  forgotten as (
    delete from perdure.servers s where s.last_seen_at < perdure.clock() - interval '1 hour' and s.server_id <> $1::uuid
    returning 1
  )
  select (1 + count(*))::int as servers
  from perdure.servers s
  where s.server_id <> $1::uuid and s.last_seen_at >= perdure.clock() - $3::int * interval '1 ms'
    and (select count(*) from announced) > 0`,
);

const RETIRE_SERVER = defineStatement('retire_server', 'delete from perdure.servers where server_id = $1::uuid');

/** A server that waits longer for this counts as without a database, in ms. */
const ANSWER_WITHIN_MS = 5_000;

/** @returns how many servers are alive, this one included */
export async function announceServer(
  db: Database,
  server: { readonly serverId: string; readonly identity: string },
): Promise<{ servers: number }> {
  const [row] = await db.query<{ servers: number }>(
    ANNOUNCE_SERVER,
    [server.serverId, server.identity, SERVER_SILENCE_MS],
    { timeoutMs: ANSWER_WITHIN_MS },
  );
  return { servers: row?.servers ?? 1 };
}

/** Deletes a server that stops. */
export async function retireServer(db: Database, serverId: string): Promise<void> {
  await db.query(RETIRE_SERVER, [serverId]);
}
