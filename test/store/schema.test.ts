import { LATEST_SCHEMA_VERSION, migrate, openDatabase, schemaVersion } from '@perdure/store';
import postgres from 'postgres';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { urlOf } from '../support/database-url.js';

describe('schema', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  it('the schema is exactly what the golden file says', async () => {
    // Names are shown with their schema whatever the search path of the tests' user is.
    const lines = await database.sql.begin(async (sql) => {
      await sql`set local search_path = pg_catalog`;
      const columns = await sql<{ line: string }[]>`
        select c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
          || case when a.attnotnull then ' not null' else '' end
          || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
          || case a.attstorage when 'e' then ' external' else '' end as line
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where n.nspname = 'perdure' and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
        order by c.relname, a.attnum`;
      const constraints = await sql<{ line: string }[]>`
        select c.relname || ' ' || o.conname || ' ' || pg_get_constraintdef(o.oid) as line
        from pg_constraint o join pg_class c on c.oid = o.conrelid join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'perdure' and o.contype <> 'n' order by c.relname, o.conname`;
      const indexes = await sql<{ line: string }[]>`
        select indexdef as line from pg_indexes where schemaname = 'perdure' order by tablename, indexname`;
      const options = await sql<{ line: string }[]>`
        select c.relname || ' ' || array_to_string(c.reloptions, ', ') as line
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'perdure' and c.reloptions is not null order by c.relname`;
      return [...columns, ...constraints, ...indexes, ...options].map(({ line }) => line);
    });
    await expect(`${lines.join('\n')}\n`).toMatchFileSnapshot('schema.golden.txt');
  });

  it('of many processes that migrate the schema at once one does it, and none a second time', async () => {
    const admin = postgres(inject('adminUrl'), { max: 1, onnotice: () => undefined });
    const name = `perdure_migrate_${process.pid}`;
    await admin.unsafe(`create database ${name}`);
    const url = urlOf(inject('adminUrl'), name);
    try {
      const db = openDatabase({ url });
      expect(await schemaVersion(db)).toBe(0);
      const results = await Promise.all(Array.from({ length: 6 }, () => migrate({ url })));
      expect(results.filter(({ from }) => from === 0)).toHaveLength(1);
      expect(results.every(({ to }) => to === LATEST_SCHEMA_VERSION)).toBe(true);
      expect(await schemaVersion(db)).toBe(LATEST_SCHEMA_VERSION);
      await db.close();
      const sql = postgres(url, { max: 1 });
      await sql`insert into perdure.schema_migrations (version, name) values (9999, 'of a later build')`;
      await sql.end();
      expect(await migrate({ url })).toEqual({ from: 9999, to: 9999 });
    } finally {
      await admin.unsafe(`drop database ${name} with (force)`);
      await admin.end();
    }
  });
});
