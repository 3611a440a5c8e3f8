import { Client } from '@perdure/worker-sdk';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { freePort, startPerdureProcess, type TestProcess } from '../support/processes.js';
import { until } from '../support/until.js';

describe('bulk operations whose servers are killed', { timeout: 120_000 }, () => {
  let database: TestDatabase;
  let servers: TestProcess[];
  let client: Client;
  beforeEach(async () => {
    database = await createDatabase();
    servers = [];
    client = new Client({ address: (await startServer()).address, logger: { warn: () => undefined } });
  });
  afterEach(async () => {
    client.close();
    await Promise.all(servers.map((server) => server.kill('SIGKILL')));
    await database.drop();
  });

  const startServer = async (port?: number) => {
    const grpcPort = port ?? (await freePort());
    const ports = ['--grpc-port', String(grpcPort), '--http-port', String(await freePort())];
    const server = startPerdureProcess(['server', ...ports], { DATABASE_URL: database.url });
    servers.push(server);
    await server.says(/server_started/);
    return { server, grpcPort, address: `127.0.0.1:${grpcPort}` };
  };
  const portOf = (index: number) => Number(/"grpc":"[^"]*:(\d+)"/.exec(servers[index]?.output() ?? '')?.[1]);
  const startRuns = async (count: number) => {
    for (let n = 0; n < count; n += 500) {
      await client.startMany(
        'w',
        Array.from({ length: 500 }, () => ({ input: undefined, options: { taskQueue: 'q' } })),
      );
    }
  };
  /** Locks the run in the middle, kills a server when its chunk has come to it, and lets go of the run. */
  const killInTheMiddle = async (runs: number, statement: string) => {
    const server = servers[0] as TestProcess;
    await database.sql.begin(async (tx) => {
      await tx`select run_id from perdure.workflow_runs order by run_id offset ${runs / 2} limit 1 for update`;
      await until(`${statement} to wait for the run`, async () => {
        const [row] = await database.sql`select 1 from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and query like ${`%perdure:${statement}%`}`;
        return row;
      });
      await server.kill('SIGKILL');
    });
  };

  it('send each run one signal, when their server is killed in a chunk and started again', async () => {
    const runs = 2_000;
    await startRuns(runs);
    const operation = await client.startBulk(
      'SIGNAL',
      { workflowType: 'w' },
      { signal: 'go', payload: 1, rate: 10_000 },
    );
    await killInTheMiddle(runs, 'send_signals');
    const port = portOf(0);
    const [before] = await database.sql`select changed, status from perdure.bulk_operations`;
    expect(before?.status).toBe('RUNNING');
    expect(before?.changed).toBeLessThan(runs);
    await startServer(port);
    expect(await operation.done()).toMatchObject({ status: 'COMPLETED', changed: runs, unchanged: 0, refused: 0 });
    const [signals] = await database.sql`
      select count(*)::int as signals, count(distinct run_id)::int as runs from perdure.signals`;
    expect(signals).toEqual({ signals: runs, runs });
  });

  it('retry each run once, when their server is killed among the retries and another one is there', async () => {
    const runs = 500;
    await startRuns(runs);
    await database.sql`
      update perdure.workflow_runs set status = 'FAILED', available_at = null, finished_at = perdure.clock(),
        failure = '{"type":"Error","message":"boom","reason":"APPLICATION"}'`;
    const { value: group } = await client.failures().next();
    expect(group).toMatchObject({ runs });
    const filter = { failureFingerprint: group?.fingerprint ?? '' };
    expect(await client.previewBulk('RETRY', filter)).toMatchObject({ matched: runs, matchedIsExact: true });
    const operation = await client.startBulk('RETRY', filter, { rate: 10_000, reason: 'repaired' });
    await killInTheMiddle(runs, 'retry_run');
    const { address } = await startServer();
    const other = new Client({ address });
    expect(await other.bulk(operation.operationId).done()).toMatchObject({ changed: runs, unchanged: 0, refused: 0 });
    const [actions] = await database.sql`
      select count(*)::int as actions, count(distinct run_id)::int as runs, min(reason) as reason from perdure.run_actions`;
    expect(actions).toEqual({ actions: runs, runs, reason: 'repaired' });
    const [pending] =
      await database.sql`select count(*)::int as runs from perdure.workflow_runs where status = 'PENDING'`;
    expect(pending?.runs).toBe(runs);
    other.close();
  });
});
