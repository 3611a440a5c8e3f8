import { createServer, type Server } from 'node:net';
import { type Database, DatabaseUnavailableError, openDatabase, StatementTimeoutError } from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defineStatement } from '../../packages/store/dist/database/statement.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const INSERT = defineStatement(
  'test_insert_namespace',
  'insert into perdure.namespaces (name, created_at) values ($1, now())',
);
const BACKEND = defineStatement('test_backend', 'select pg_backend_pid() as pid');
const SLOW = defineStatement('test_slow', 'select pg_sleep(20)');
const SETTINGS = defineStatement(
  'test_settings',
  "select name, setting from pg_settings where name in ('enable_seqscan', 'jit', 'statement_timeout')",
);
const ONE = defineStatement('test_one', 'select 1 as one');

describe('connections to PostgreSQL', () => {
  let database: TestDatabase;
  let db: Database;
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url, maxTransactions: 1 });
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });
  const names = async () =>
    (await database.sql`select name from perdure.namespaces order by name`).map(({ name }) => name);

  it('nothing of a transaction is written when its connection breaks between two statements, and the next one works', async () => {
    const before = await names();
    for (let round = 0; round < 5; round++) {
      const broken = db.transaction(async (transaction) => {
        await transaction.query(INSERT, [`first-${round}`]);
        const [row] = await transaction.query<{ pid: number }>(BACKEND, []);
        await database.sql`select pg_terminate_backend(${row?.pid ?? 0})`;
        await until('the connection to be gone', async () => {
          const [left] = await database.sql`select 1 from pg_stat_activity where pid = ${row?.pid ?? 0}`;
          return left === undefined;
        });
        // Over another connection these would be written on their own.
        for (let n = 0; n < 3; n++) await transaction.query(INSERT, [`second-${round}-${n}`]).catch(() => undefined);
        await transaction.query(INSERT, [`third-${round}`]);
      });
      await expect(broken).rejects.toBeInstanceOf(DatabaseUnavailableError);
      await db.transaction((transaction) => transaction.query(INSERT, [`whole-${round}`]));
    }
    const expected = [...before, 'whole-0', 'whole-1', 'whole-2', 'whole-3', 'whole-4'].sort();
    expect(await names()).toEqual(expected);
  });

  it('a transaction that fails is rolled back and its connection used again', async () => {
    const pids = new Set<number>();
    for (let round = 0; round < 3; round++) {
      const failed = db.transaction(async (transaction) => {
        const [row] = await transaction.query<{ pid: number }>(BACKEND, []);
        pids.add(row?.pid ?? 0);
        await transaction.query(INSERT, ['twice']);
        await transaction.query(INSERT, ['twice']);
      });
      await expect(failed).rejects.toThrow(/duplicate key/);
    }
    expect(pids.size).toBe(1);
    expect(await names()).not.toContain('twice');
  });

  it('planner settings and the statement timeout are sent when a connection begins, unless a pooler would refuse them', async () => {
    const settings = async (startupParameters: boolean) => {
      const opened = openDatabase({ url: database.url, startupParameters, statementTimeoutMs: 1_234 });
      const rows = await opened.query<{ name: string; setting: string }>(SETTINGS, []);
      await opened.close();
      return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
    };
    expect(await settings(true)).toMatchObject({ enable_seqscan: 'off', jit: 'off', statement_timeout: '1234' });
    expect(await settings(false)).toMatchObject({ enable_seqscan: 'on', statement_timeout: '0' });
  });

  it('a statement that exceeds the statement timeout is ended by PostgreSQL, and is not an outage', async () => {
    let troubles = 0;
    const opened = openDatabase({ url: database.url, statementTimeoutMs: 100, onUnavailable: () => troubles++ });
    await expect(opened.query(SLOW, [])).rejects.toBeInstanceOf(StatementTimeoutError);
    expect(await opened.query(ONE, [])).toEqual([{ one: 1 }]);
    expect(troubles).toBe(0);
    await opened.close();
  });

  describe('with a peer that accepts and closes at once', () => {
    let peer: Server;
    let url: string;
    let accepted = 0;
    beforeAll(async () => {
      peer = createServer((socket) => {
        accepted++;
        socket.on('error', () => undefined);
        socket.resume();
        socket.end();
      });
      await new Promise<void>((resolve) => peer.listen(0, '127.0.0.1', resolve));
      const address = peer.address();
      url = `postgres://u:p@127.0.0.1:${typeof address === 'object' ? address?.port : 0}/d`;
    });
    afterAll(() => new Promise((resolve) => peer.close(resolve)));

    it('a statement to a peer that closes at once fails with one connection, instead of dialling forever', async () => {
      const lost = openDatabase({ url });
      const since = accepted;
      await expect(lost.query(ONE, [])).rejects.toBeInstanceOf(DatabaseUnavailableError);
      expect(accepted - since).toBe(1);
      await lost.close();
    });

    it('a listener whose peer closes at once waits longer between its attempts and reports the interruption once', async () => {
      const lost = openDatabase({ url });
      const since = accepted;
      const interruptions: Error[] = [];
      const sinceMs = performance.now();
      const listener = lost.listen({
        channel: 'c',
        onPayload: () => undefined,
        onListening: () => undefined,
        onInterrupted: (error) => interruptions.push(error),
      });
      await until('the fifth try', () => accepted - since >= 5);
      // 100, 200, 400 and 800 ms, each at least halved by chance.
      expect(performance.now() - sinceMs).toBeGreaterThan(700);
      expect(interruptions).toHaveLength(1);
      await listener.stop();
      await lost.close();
    });
  });

  it('a listener whose connection was cut listens again, and gets later notifications', async () => {
    const { hostname, port } = new URL(database.url);
    const proxy = await startTcpProxy(`${hostname}:${port}`);
    const url = new URL(database.url);
    url.host = proxy.address;
    const behind = openDatabase({ url: url.href });
    const heard: string[] = [];
    let listening = 0;
    let interruptions = 0;
    const listener = behind.listen({
      channel: 'perdure_test',
      onPayload: (payload) => heard.push(payload),
      onListening: () => listening++,
      onInterrupted: () => interruptions++,
    });
    for (let round = 1; round <= 3; round++) {
      await until('the listener to listen', () => listening === round);
      await db.notify('perdure_test', `round ${round}`);
      await until('the payload to come', () => heard.length === round);
      proxy.cut();
      await until('the interruption to be told', () => interruptions === round);
    }
    expect(heard).toEqual(['round 1', 'round 2', 'round 3']);
    await listener.stop();
    await behind.close();
    await proxy.close();
  });
});
