import { randomBytes } from 'node:crypto';
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
      // The function reads a table, so that moving the clock again does not throw away all plans.
      if (!clockIsOurs) {
        clockIsOurs = true;
        await sql.unsafe(`create table public.test_clock (ahead interval not null);
          insert into public.test_clock values ('0');
          create or replace function perdure.clock() returns timestamptz language sql stable parallel safe
            as $$ select statement_timestamp() + (select ahead from public.test_clock) $$`);
      }
      await sql.unsafe(`update public.test_clock set ahead = ahead + interval '${ms} milliseconds'`);
    },
    async drop() {
      await sql.end({ timeout: 1 });
      await admin.unsafe(`drop database if exists ${name} with (force)`);
      await admin.end();
    },
  };
}
