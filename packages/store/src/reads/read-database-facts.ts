/** Facts about the database that a server checks and reports. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import { SERVER_SILENCE_MS } from '../transitions/announce-servers.js';
import type { DatabaseFacts } from './queries.js';

const DATABASE_FACTS = defineStatement(
  'database_facts',
  `select current_setting('server_version') as database_version, perdure.clock() as now,
    (select coalesce(max(m.version), 0)::int from perdure.schema_migrations m) as schema_version,
    current_setting('fsync') = 'on' as fsync,
    current_setting('synchronous_commit') <> 'off' as synchronous_commit,
    (select count(*)::int from perdure.servers s
      where s.last_seen_at >= perdure.clock() - $1::int * interval '1 ms') as servers`,
);

const MIGRATIONS_EXIST = defineStatement(
  'migrations_exist',
  `select to_regclass('perdure.schema_migrations') is not null as present`,
);

const SCHEMA_VERSION = defineStatement(
  'schema_version',
  'select coalesce(max(m.version), 0)::int as version from perdure.schema_migrations m',
);

interface Row {
  readonly database_version: string;
  readonly now: Date;
  readonly schema_version: number;
  readonly fsync: boolean;
  readonly synchronous_commit: boolean;
  readonly servers: number;
}

export async function readDatabaseFacts(db: Reader): Promise<DatabaseFacts> {
  const [row] = await db.query<Row>(DATABASE_FACTS, [SERVER_SILENCE_MS]);
  if (row === undefined) throw new Error("Statement 'database_facts' answered without a row.");
  return {
    databaseVersion: row.database_version,
    schemaVersion: row.schema_version,
    now: row.now,
    fsync: row.fsync,
    synchronousCommit: row.synchronous_commit,
    servers: row.servers,
  };
}

/** @returns the newest migration applied; 0 when there is no schema */
export async function schemaVersion(db: Reader): Promise<number> {
  const [found] = await db.query<{ present: boolean }>(MIGRATIONS_EXIST, []);
  if (found?.present !== true) return 0;
  const [row] = await db.query<{ version: number }>(SCHEMA_VERSION, []);
  return row?.version ?? 0;
}
