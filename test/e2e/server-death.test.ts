import { RunStatus } from '@perdure/proto';
import { Client, Worker, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { freePort, startPerdureProcess } from '../support/processes.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

describe('servers that die, with real processes', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, minWorkerSilenceMs: 500 } });
  });
  afterAll(() => perdure.stop());

  it('a run whose leased start was committed but never reached its worker is executed after its lease has expired', async () => {
    const [grpcPort, httpPort] = [await freePort(), await freePort()];
    const dying = startPerdureProcess(['server', '--grpc-port', String(grpcPort), '--http-port', String(httpPort)], {
      DATABASE_URL: perdure.database.url,
    });
    await dying.says(/server_started/);
    const proxy = await startTcpProxy(`127.0.0.1:${grpcPort}`);
    const taskQueue = `q-${uuid()}`;
    const executed: string[] = [];
    const once = workflow('once', (ctx, _: undefined) =>
      ctx.step('s', ({ stepId }) => {
        executed.push(`${ctx.run.attempt} ${stepId}`);
        return 'done';
      }),
    );
    const worker = new Worker({
      taskQueue,
      workflows: [once],
      address: `${proxy.address},${perdure.server.grpcAddress}`,
      leaseDuration: '1s',
      logger: pino({ level: 'silent' }),
      handleSignals: false,
    });
    await worker.start();
    const client = new Client({ address: `127.0.0.1:${grpcPort}` });
    // Shows that the worker polls there; its other polls go on waiting.
    await client.execute(once, undefined, { taskQueue });
    executed.length = 0;

    proxy.blackHole = true;
    const { runId } = await client.start(once, undefined, { taskQueue });
    const { run: leased } = await perdure.workflows.getRun({ runId });
    expect(leased).toMatchObject({ status: RunStatus.RUNNING, leaseToken: 1, leasedBy: worker.workerId, attempt: 1 });
    await dying.kill('SIGKILL');
    await proxy.close();

    const handle = perdure.client.handle<string>(runId);
    expect(await handle.result({ timeout: '20s' })).toBe('done');
    expect(executed).toEqual(['2 s']);
    await until('the worker to be free', () => worker.running === 0);
    client.close();
    await worker.shutdown(0);
  }, 60_000);

  it('a run whose signal and next lease were committed but never reached its worker continues after its lease has expired', async () => {
    const [grpcPort, httpPort] = [await freePort(), await freePort()];
    const dying = startPerdureProcess(['server', '--grpc-port', String(grpcPort), '--http-port', String(httpPort)], {
      DATABASE_URL: perdure.database.url,
    });
    await dying.says(/server_started/);
    const proxy = await startTcpProxy(`127.0.0.1:${grpcPort}`);
    const taskQueue = `q-${uuid()}`;
    const executed: string[] = [];
    const waits = workflow('waits', async (ctx, _: undefined) => {
      await ctx.step('before', () => executed.push('before'));
      const got = await ctx.waitForSignal<number>('go');
      return ctx.step('after', () => {
        executed.push(`after ${ctx.run.attempt}`);
        return got;
      });
    });
    const worker = new Worker({
      taskQueue,
      workflows: [waits],
      address: `${proxy.address},${perdure.server.grpcAddress}`,
      // Long enough for what is looked at below.
      leaseDuration: '4s',
      logger: pino({ level: 'silent' }),
      handleSignals: false,
    });
    await worker.start();
    const client = new Client({ address: `127.0.0.1:${grpcPort}` });
    const { runId } = await client.start(waits, undefined, { taskQueue });
    await until('the run to be suspended in the memory of its worker', async () => {
      const { status } = await perdure.client.handle(runId).get();
      return status === 'WAITING' && worker.running === 0;
    });

    proxy.blackHole = true;
    await client.handle(runId).signal('go', 42);
    const { run: leased } = await perdure.workflows.getRun({ runId });
    expect(leased).toMatchObject({ status: RunStatus.RUNNING, leaseToken: 2, leasedBy: worker.workerId });
    await dying.kill('SIGKILL');
    await proxy.close();

    expect(await perdure.client.handle<number>(runId).result({ timeout: '30s' })).toBe(42);
    expect(executed).toEqual(['before', 'after 2']);
    await until('the worker to be free', () => worker.running === 0);
    client.close();
    await worker.shutdown(0);
  }, 60_000);
});
