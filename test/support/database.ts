import { randomBytes } from 'node:crypto';
import { INSTALL_TEST_CLOCK, moveTestClock } from '@perdure/store';
import postgres from 'postgres';
import { inject } from 'vitest';
import { urlOf } from './database-url.js';

/** A database of a test file's own. */
export interface TestDatabase {
  readonly url: string;
  /** For looking at tables; everything else goes through the product. */
  readonly sql: postgres.Sql;
  /** Moves the database's clock; it runs on from there. Milliseconds add up. */
  advanceClock(ms: number): Promise<void>;
  drop(): Promise<void>;
}

/** Copies the migrated template. */
export async function createDatabase(): Promise<TestDatabase> {
  const adminUrl = inject('adminUrl');
  const name = `perdure_test_${randomBytes(6).toString('hex')}`;
  const admin = postgres(adminUrl, { max: 1, onnotice: () => undefined });
  await admin.unsafe(`create database ${name} template ${inject('templateDatabase')}`);
  const url = urlOf(adminUrl, name);
  const sql = postgres(url, { max: 3, onnotice: () => undefined, fetch_types: false });
  let clockIsOurs = false;
  return {
    url,
    sql,
    async advanceClock(ms) {
      if (!clockIsOurs) {
        clockIsOurs = true;
        await sql.unsafe(INSTALL_TEST_CLOCK);
      }
      await moveTestClock(sql, ms);
    },
    async drop() {
      await sql.end({ timeout: 1 });
      await admin.unsafe(`drop database if exists ${name} with (force)`);
      await admin.end();
    },
  };
}
