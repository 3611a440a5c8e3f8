import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '@perdure/embedded-postgres';
import { migrate } from '@perdure/store';
import { Client, Connection, Worker, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, startPerdureProcess, type TestProcess } from '../support/processes.js';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const lines = (process: TestProcess) => process.output().split('\n').filter(Boolean).length;

describe('outages of PostgreSQL, with real processes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'perdure-outage-'));
  let postgres: EmbeddedPostgres;
  let proxy: TcpProxy;
  let server: TestProcess;
  let reaper: TestProcess;
  let baseUrl: string;
  let health: grpc.Client;
  let grpcAddress: string;
  beforeAll(async () => {
    postgres = await startEmbeddedPostgres({ folder });
    await migrate({ url: postgres.url });
    const { hostname, port } = new URL(postgres.url);
    proxy = await startTcpProxy(`${hostname}:${port}`);
    const url = new URL(postgres.url);
    url.host = proxy.address;
    const [grpcPort, httpPort] = [await freePort(), await freePort()];
    const env = { DATABASE_URL: url.href };
    server = startPerdureProcess(['server', '--grpc-port', String(grpcPort), '--http-port', String(httpPort)], env);
    reaper = startPerdureProcess(['reaper'], env);
    await Promise.all([server.says(/server_started/), reaper.says(/reaper_started/)]);
    baseUrl = `http://127.0.0.1:${httpPort}`;
    grpcAddress = `127.0.0.1:${grpcPort}`;
    health = new grpc.Client(grpcAddress, grpc.credentials.createInsecure());
  });
  afterAll(async () => {
    health.close();
    await Promise.all([server.kill('SIGKILL'), reaper.kill('SIGKILL')]);
    await proxy.close();
    await postgres.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const probe = async (path: string) => (await fetch(`${baseUrl}${path}`)).status;
  const serving = () =>
    new Promise<number>((resolve, reject) => {
      const bytes = (value: Buffer) => value;
      health.makeUnaryRequest('/grpc.health.v1.Health/Check', bytes, bytes, Buffer.alloc(0), (error, answer) =>
        error === null ? resolve(answer?.at(-1) ?? 0) : reject(error),
      );
    });
  const [SERVING, NOT_SERVING] = [1, 2];

  it('an outage causes few connections and few log lines, readiness reports it, and its end is logged', async () => {
    expect([await probe('/healthz'), await probe('/readyz'), await serving()]).toEqual([200, 200, SERVING]);
    const taskQueue = `q-${uuid()}`;
    const connection = new Connection({ address: grpcAddress });
    const naps = workflow('naps', async (ctx, _: undefined) => {
      await ctx.step('a', () => 1);
      return ctx.run.runId;
    });
    // Its polls and heartbeats go on during the outage.
    const worker = new Worker({
      taskQueue,
      workflows: [naps],
      connection,
      logger: pino({ level: 'silent' }),
      handleSignals: false,
    });
    await worker.start();
    const client = new Client({ connection });
    await client.execute(naps, undefined, { taskQueue });

    const before = { server: lines(server), reaper: lines(reaper) };
    proxy.refuse = true;
    proxy.cut();
    await until('readiness to go', async () => (await probe('/readyz')) === 503 && (await serving()) === NOT_SERVING);
    const accepted = proxy.accepted;
    const sinceMs = performance.now();
    // The reconnects of five seconds are counted: without a pause there would be thousands.
    await until('five seconds of outage', () => performance.now() - sinceMs > 5_000);
    expect(proxy.accepted - accepted).toBeLessThan(150);
    expect(await probe('/healthz')).toBe(200);
    await reaper.says(/database_unavailable/);
    for (const [process, name] of [[server, 'server'] as const, [reaper, 'reaper'] as const]) {
      expect(lines(process) - before[name], process.output()).toBeLessThanOrEqual(8);
    }

    proxy.refuse = false;
    await until('readiness to come', async () => (await probe('/readyz')) === 200 && (await serving()) === SERVING);
    await Promise.all([server.says(/database_available/), reaper.says(/database_available/)]);
    await client.execute(naps, undefined, { taskQueue, workflowId: 'afterwards' });
    await worker.shutdown(0);
    connection.close();
  }, 60_000);

  it('a restart of PostgreSQL causes few connections and few log lines', async () => {
    const { port } = new URL(postgres.url);
    const before = lines(server);
    await postgres.stop();
    await until('readiness to go', async () => (await probe('/readyz')) === 503);
    postgres = await startEmbeddedPostgres({ folder, port: Number(port) });
    await until('readiness to come', async () => (await probe('/readyz')) === 200);
    expect(lines(server) - before, server.output()).toBeLessThanOrEqual(10);
    expect(server.child.exitCode ?? reaper.child.exitCode).toBeNull();
  }, 60_000);

  it('a server that waits for its database exits with 0 on a signal', async () => {
    const waiting = startPerdureProcess(['server', '--grpc-port', '0', '--http-port', '0'], {
      DATABASE_URL: `postgres://127.0.0.1:${await freePort()}/none`,
    });
    await waiting.says(/waiting_for_database/);
    await waiting.kill('SIGTERM');
    expect(await waiting.ended()).toBe(0);
  });
});
