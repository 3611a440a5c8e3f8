import { type Database, openDatabase } from '@perdure/store';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  byteaArray,
  jsonArray,
  plainArray,
  textArray,
  timestampArray,
} from '../../packages/store/dist/database/literals.js';
import { createDatabase, type TestDatabase } from '../support/database.js';

/** Array literals are built here and read by PostgreSQL; what it reads must be what was given. */
describe('array literals come to PostgreSQL as they were given:', () => {
  let database: TestDatabase;
  let db: Database;
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url, maxConnections: 1 });
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });

  const readBack = async <T>(type: string, literal: string): Promise<T[]> => {
    const text = `select value from unnest($1::${type}[]) with ordinality as t(value, ord) order by ord`;
    return (await db.query<{ value: T }>({ name: `read_${type}`, text }, [literal])).map(({ value }) => value);
  };
  /** Short strings of what arrays treat specially, among all of Unicode but NUL and halves of pairs. */
  const text = fc
    .array(
      fc.oneof(
        fc.constantFrom('"', '\\', '{', '}', ',', 'NULL', 'null', ' ', '\n', "'", '\\x', '', '\u2028'),
        fc.string({ unit: 'binary' }).map((string) => string.replaceAll('\0', '')),
      ),
    )
    .map((parts) => parts.join(''));
  const listOf = <T>(item: fc.Arbitrary<T>) => fc.array(fc.option(item), { maxLength: 8 });
  const holds = <T>(arbitrary: fc.Arbitrary<T>, check: (value: T) => Promise<void>) =>
    fc.assert(fc.asyncProperty(arbitrary, check), { numRuns: 150 });

  it('text with all characters that are special in an array reaches PostgreSQL unchanged', () =>
    holds(listOf(text), async (items) => {
      expect(await readBack('text', textArray(items))).toEqual(items);
    }));

  it('numbers and booleans reach PostgreSQL unchanged', async () => {
    await holds(listOf(fc.integer()), async (items) => {
      expect(await readBack('int', plainArray(items))).toEqual(items);
    });
    await holds(listOf(fc.boolean()), async (items) => {
      expect(await readBack('boolean', plainArray(items))).toEqual(items);
    });
    await holds(listOf(fc.double({ noNaN: true, noDefaultInfinity: true })), async (items) => {
      expect((await readBack<number | null>('float8', plainArray(items))).map(asIs)).toEqual(items.map(asIs));
    });
  });

  it('UUIDs reach PostgreSQL unchanged', () =>
    holds(listOf(fc.uuid()), async (items) => {
      expect(await readBack('uuid', plainArray(items))).toEqual(items);
    }));

  it('bytes reach PostgreSQL unchanged, also those of a view into a larger buffer', () =>
    holds(listOf(fc.tuple(fc.uint8Array(), fc.nat(3))), async (items) => {
      const views = items.map((item) => (item === null ? null : item[0].subarray(Math.min(item[1], item[0].length))));
      const read = await readBack<Uint8Array | null>('bytea', byteaArray(views));
      expect(read.map(hexOf)).toEqual(views.map(hexOf));
    }));

  it('JSON documents reach PostgreSQL unchanged', () =>
    holds(listOf(fc.record({ text, nested: fc.array(text), number: fc.integer() })), async (items) => {
      const read = await readBack<unknown>('jsonb', jsonArray(items));
      expect(read.map((value) => (typeof value === 'string' ? JSON.parse(value) : value))).toEqual(items);
    }));

  it('times reach PostgreSQL exact to the millisecond', () =>
    holds(
      listOf(fc.date({ min: new Date('1000-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })),
      async (items) => {
        const read = await readBack<string | null>('timestamptz', timestampArray(items));
        expect(read.map((value) => (value === null ? null : new Date(value)))).toEqual(items);
      },
    ));
});

/** -0 is 0 for PostgreSQL's text. */
const asIs = (value: number | null) => (value === 0 ? 0 : value);
const hexOf = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString('hex'));
