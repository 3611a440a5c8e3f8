/** Databases for tests: copies of a migrated template, which take a fraction of the time of a migration. */
import { createHash, randomBytes } from 'node:crypto';
import type postgres from 'postgres';
import { openDriver } from '../database/driver.js';
import { migrate } from '../schema/migrate.js';
import { MIGRATIONS } from '../schema/migrations/index.js';
import { INSTALL_TEST_CLOCK } from './test-clock.js';
import { INSTALL_SKIP } from './test-statements.js';

/** A database of its own for one test environment, at the latest schema, with a clock that can be moved. */
export interface TestDatabase {
  /** Connection string, with the password of the given one. */
  readonly url: string;
  /** Ends what is connected to it, and drops it. */
  drop(): Promise<void>;
}

/** Serialises the making of a template; an arbitrary constant. */
const ADVISORY_LOCK = 7_300_730_173_007_302n;

/**
 * Makes a database beside the given one. The first call for a schema also makes the template `perdure_template_…`, which stays.
 *
 * @param adminUrl any database of the PostgreSQL, with the right to create databases
 * @throws what the driver throws when PostgreSQL cannot be reached or refuses
 */
export async function createTestDatabase(adminUrl: string): Promise<TestDatabase> {
  const admin = openDriver(adminUrl, { maxConnections: 1, preparedStatements: false, parameters: {} });
  const name = `perdure_test_${randomBytes(8).toString('hex')}`;
  try {
    const template = await templateOf(admin, adminUrl);
    await admin.unsafe(`create database ${name} template ${template}`);
    // Tests wait for no disk.
    await admin.unsafe(`alter database ${name} set synchronous_commit = off`);
  } finally {
    await admin.end({ timeout: 5 });
  }
  return {
    url: urlOf(adminUrl, name),
    async drop() {
      const sql = openDriver(adminUrl, { maxConnections: 1, preparedStatements: false, parameters: {} });
      try {
        await sql.unsafe(`drop database if exists ${name} with (force)`);
      } finally {
        await sql.end({ timeout: 5 });
      }
    },
  };
}

/** It gets its name when it is complete, so a kill at any moment leaves no half-made one behind. */
async function templateOf(admin: postgres.Sql, adminUrl: string): Promise<string> {
  const template = `perdure_template_${schemaHash()}`;
  const exists = async () =>
    (await admin.unsafe('select 1 from pg_database where datname = $1', [template])).length > 0;
  if (await exists()) return template;
  // The same connection for all of it: the lock is the session's.
  await admin.unsafe(`select pg_advisory_lock(${ADVISORY_LOCK})`);
  try {
    if (await exists()) return template;
    const making = `${template}_making`;
    await admin.unsafe(`drop database if exists ${making} with (force)`);
    await admin.unsafe(`create database ${making}`);
    const url = urlOf(adminUrl, making);
    await migrate({ url });
    const sql = openDriver(url, { maxConnections: 1, preparedStatements: false, parameters: {} });
    try {
      await sql.unsafe(INSTALL_TEST_CLOCK);
      await sql.unsafe(INSTALL_SKIP);
    } finally {
      await sql.end({ timeout: 5 });
    }
    await admin.unsafe(`alter database ${making} rename to ${template}`);
    return template;
  } finally {
    await admin.unsafe(`select pg_advisory_unlock(${ADVISORY_LOCK})`);
  }
}

/** Another schema gets another template. */
function schemaHash(): string {
  const hash = createHash('sha256');
  for (const { version, sql } of MIGRATIONS) hash.update(`${version}\n${sql}\n`);
  hash.update(INSTALL_TEST_CLOCK);
  hash.update(INSTALL_SKIP);
  return hash.digest('hex').slice(0, 16);
}

/** @returns the connection string of another database of the same PostgreSQL */
function urlOf(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${database}`;
  return other.href;
}
