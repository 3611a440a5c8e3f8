import { setTimeout as delay } from 'node:timers/promises';
import type postgres from 'postgres';
import { openDriver } from '../database/driver.js';
import { codeOf } from '../database/errors.js';
import { MIGRATIONS, type Migration } from './migrations/index.js';

/** Options of {@link migrate}. */
export interface MigrateOptions {
  /** Connection string of the database. */
  readonly url: string;
  /** Called before each migration is applied. */
  readonly onProgress?: (migration: Pick<Migration, 'version' | 'name'>) => void;
}

/** What {@link migrate} did. */
export interface MigrateResult {
  /** Schema version found; 0 for an empty database. */
  readonly from: number;
  /** Schema version now. */
  readonly to: number;
}

/** Serialises migrations of one database; an arbitrary constant. */
const ADVISORY_LOCK = 7_300_730_173_007_301n;

const MIN_LOCK_WAIT_MS = 300;
const MAX_LOCK_WAIT_MS = 5_000;
const MAX_RERUNS = 60;
/** A deadlock, or a lock that was not to be had in time. */
const LOCK_STATES: ReadonlySet<string> = new Set(['40P01', '55P03']);

/** The newest schema version that this build knows. */
export const LATEST_SCHEMA_VERSION = MIGRATIONS.at(-1)?.version ?? 0;

/**
 * Brings the schema `perdure` of a database to {@link LATEST_SCHEMA_VERSION}. Any number of processes may call it at once:
 * an advisory lock admits one at a time, and the others find nothing to do. Each migration is one transaction,
 * so a kill at any moment leaves the schema at a version, never between two. A newer database is not changed.
 *
 * @returns the versions before and after
 * @throws what the driver throws when the database cannot be reached or a migration fails; migrations that were applied stay
 */
export async function migrate({ url, onProgress }: MigrateOptions): Promise<MigrateResult> {
  const sql = openDriver(url, {
    maxConnections: 1,
    preparedStatements: false,
    parameters: { application_name: 'perdure-migrate' },
  });
  try {
    await sql.unsafe(`select pg_advisory_lock(${ADVISORY_LOCK})`);
    await sql.unsafe(`
      create schema if not exists perdure;
      create table if not exists perdure.schema_migrations (
        version integer primary key, name text not null, applied_at timestamptz not null default statement_timestamp());`);
    const from = await readVersion(sql);
    for (const migration of MIGRATIONS.filter(({ version }) => version > from)) {
      onProgress?.({ version: migration.version, name: migration.name });
      await apply(sql, migration);
    }
    return { from, to: await readVersion(sql) };
  } finally {
    await sql.end({ timeout: 5 });
  }
}

/** Applies one migration, beside servers that are at work. */
async function apply(sql: postgres.Sql, { version, name, sql: text }: Migration): Promise<void> {
  for (let rerun = 0, lockWaitMs = MIN_LOCK_WAIT_MS; ; rerun++) {
    try {
      // One message, so that a broken connection ends the whole transaction. The names are constants. While a lock of a whole table
      // is waited for, everybody else waits behind it, so the first waits are short.
      await sql.unsafe(`begin;
        set local lock_timeout = '${lockWaitMs}ms';
        ${text};
        insert into perdure.schema_migrations (version, name) values (${version}, '${name}');
        commit;`);
      return;
    } catch (error) {
      if (rerun >= MAX_RERUNS || !LOCK_STATES.has(codeOf(error))) throw error;
      await sql.unsafe('rollback');
      await delay(MIN_LOCK_WAIT_MS * Math.random());
      lockWaitMs = Math.min(Math.round(lockWaitMs * 1.5), MAX_LOCK_WAIT_MS);
    }
  }
}

async function readVersion(sql: postgres.Sql): Promise<number> {
  const [row] = await sql<{ version: number }[]>`
    select coalesce(max(version), 0)::int as version from perdure.schema_migrations`;
  return row?.version ?? 0;
}
