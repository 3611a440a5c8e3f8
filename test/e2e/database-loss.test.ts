import { createHash } from 'node:crypto';
import { Client } from '@perdure/worker-sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { freePort, startPerdureProcess, type TestProcess } from '../support/processes.js';

describe('PostgreSQL connections that break under a server, with real processes', () => {
  let database: TestDatabase;
  let server: TestProcess;
  let client: Client;
  beforeAll(async () => {
    database = await createDatabase();
    const grpcPort = await freePort();
    server = startPerdureProcess(['server', '--grpc-port', String(grpcPort), '--http-port', '0'], {
      DATABASE_URL: database.url,
    });
    await server.says(/server_started/);
    client = new Client({ address: `127.0.0.1:${grpcPort}` });
  });
  afterAll(async () => {
    client.close();
    await server.kill('SIGTERM');
    await database.drop();
  });

  it('a server survives the loss of all its connections in the middle of starts that look at ended runs', async () => {
    const terminated = new Set<string>();
    for (let round = 0; round < 12; round++) {
      const starts = Array.from({ length: 60 }, (_, n) =>
        client.start('w', n, {
          taskQueue: 'q',
          workflowId: `round-${round}-${n}`,
          requestId: createHash('sha256').update(`${round}-${n}`).digest('hex'),
          reusePolicy: 'allow-if-failed',
        }),
      );
      const settled = Promise.allSettled(starts);
      let over = false;
      void settled.then(() => {
        over = true;
      });
      // Again and again for as long as starts are under way, so that every moment of a transaction is hit.
      for (let kills = 0; kills < 5 && !over; kills++) {
        const rows = await database.sql<{ pid: number }[]>`
          select pid, pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name like 'perdure-server%'`;
        for (const { pid } of rows) terminated.add(String(pid));
      }
      expect((await settled).filter(({ status }) => status === 'rejected')).toEqual([]);
      expect(server.child.exitCode, server.output().slice(-2_000)).toBeNull();
    }
    const [row] = await database.sql<{ runs: number; ids: number }[]>`
      select count(*)::int as runs, count(distinct workflow_id)::int as ids from perdure.workflow_runs`;
    expect(row).toEqual({ runs: 720, ids: 720 });
    expect(terminated.size).toBeGreaterThan(12);
    expect(server.output()).not.toMatch(/"level":60|TypeError/);
  }, 120_000);
});
