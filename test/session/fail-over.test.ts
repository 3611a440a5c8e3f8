import { Client, Connection, Worker, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { leavesServer } from '../../packages/worker-sdk/dist/rpc/fail-over.js';
import { afterFailure } from '../../packages/worker-sdk/dist/rpc/session-policy.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { startTcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';

const silent = pino({ level: 'silent' });
const hello = workflow('hello', async (_, name: string) => `hello ${name}`);

describe('fail-over between servers', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50 } });
  });
  afterAll(() => perdure.stop());

  const timed = async <T>(work: Promise<T>): Promise<{ value: T; tookMs: number }> => {
    const beganMs = performance.now();
    return { value: await work, tookMs: performance.now() - beganMs };
  };

  it.each([true, false])(
    'a start does not wait long for an address that swallows everything when another one works (session: %s)',
    async (session) => {
      const proxy = await startTcpProxy(perdure.server.grpcAddress);
      proxy.blackHole = true;
      const connection = new Connection({ address: `${proxy.address},${perdure.server.grpcAddress}`, session });
      const client = new Client({ connection });
      const first = await timed(client.start(hello, 'a', { taskQueue: `q-${uuid()}` }));
      expect(first.value.created).toBe(true);
      expect(first.tookMs).toBeLessThan(8_000);
      const next = await timed(client.start(hello, 'b', { taskQueue: `q-${uuid()}` }));
      expect(next.tookMs).toBeLessThan(first.tookMs / 2);
      connection.close();
      await proxy.close();
    },
  );

  it('a start over a silent connection is made at the next address within seconds', async () => {
    const proxy = await startTcpProxy(perdure.server.grpcAddress);
    const client = new Client({ address: `${proxy.address},${perdure.server.grpcAddress}` });
    await client.start(hello, 'a', { taskQueue: `q-${uuid()}` });
    proxy.blackHole = true;
    const { tookMs } = await timed(client.start(hello, 'b', { taskQueue: `q-${uuid()}` }));
    expect(tookMs).toBeLessThan(15_000);
    client.close();
    await proxy.close();
  });

  it('a worker whose server is silent keeps its runs: it renews their leases at another server', async () => {
    const proxy = await startTcpProxy(perdure.server.grpcAddress);
    const taskQueue = `q-${uuid()}`;
    let finish = () => {};
    const gate = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const long = workflow('long', async (ctx, _: undefined) => {
      await ctx.step('wait', () => gate);
      return ctx.run.attempt;
    });
    const worker = new Worker({
      taskQueue,
      workflows: [long],
      address: `${proxy.address},${perdure.server.grpcAddress}`,
      leaseDuration: '12s',
      logger: silent,
      handleSignals: false,
    });
    await worker.start();
    const handle = await perdure.client.start(long, undefined, { taskQueue });
    await until(
      'the step',
      async () => (await perdure.workflows.getHistory({ runId: handle.runId })).steps.length === 1,
    );
    const expiry = async () => {
      const [row] = await perdure.database.sql<{ at: Date }[]>`
        select lease_expires_at as at from perdure.workflow_runs where run_id = ${handle.runId}`;
      return row?.at.getTime() ?? 0;
    };
    proxy.blackHole = true;
    const before = await expiry();
    const { tookMs } = await timed(until('a renewal', async () => (await expiry()) > before + 3_000, 12_000));
    expect(tookMs).toBeLessThan(11_000);
    finish();
    expect(await handle.result({ timeout: '10s' })).toBe(1);
    await worker.shutdown(0);
    await proxy.close();
  }, 60_000);

  it('calls leave a server that has lost its database for one that has it', async () => {
    const url = new URL(perdure.database.url);
    const proxy = await startTcpProxy(`${url.hostname}:${url.port}`);
    url.host = proxy.address;
    const other = await perdure.startServer({ databaseUrl: url.href });
    const taskQueue = `q-${uuid()}`;
    const address = `${other.grpcAddress},${perdure.server.grpcAddress}`;
    const worker = new Worker({ taskQueue, workflows: [hello], address, logger: silent, handleSignals: false });
    await worker.start();
    const client = new Client({ address });
    expect(await client.execute(hello, 'you', { taskQueue, timeout: '10s' })).toBe('hello you');
    const closing = proxy.close();
    proxy.cut();
    await closing;
    const { value, tookMs } = await timed(client.execute(hello, 'again', { taskQueue, timeout: '25s' }));
    expect(value).toBe('hello again');
    expect(tookMs).toBeLessThan(15_000);
    client.close();
    await worker.shutdown(0);
  }, 60_000);
});

describe('when a server is left', () => {
  const at = (status: string, reason: string, failuresInARow = 1, isSilent = false) =>
    leavesServer({ error: { status, reason } as never, failuresInARow, isSilent });

  it('a client leaves a server at once when it cannot be reached, stops or is silent; at the second failure when it is slow or without its database', () => {
    expect(at('UNAVAILABLE', '')).toBe(true);
    expect(at('UNAVAILABLE', 'SHUTTING_DOWN')).toBe(true);
    expect(at('DEADLINE_EXCEEDED', '', 1, true)).toBe(true);
    expect(at('DEADLINE_EXCEEDED', '')).toBe(false);
    expect(at('DEADLINE_EXCEEDED', '', 2)).toBe(true);
    expect(at('UNAVAILABLE', 'DATABASE_UNAVAILABLE')).toBe(false);
    expect(at('UNAVAILABLE', 'DATABASE_UNAVAILABLE', 2)).toBe(true);
    for (const reason of ['OVERLOADED', 'LEASE_LOST', 'INTERNAL']) expect(at('UNKNOWN', reason, 9)).toBe(false);
  });

  it('sessions are given up where streams are refused or swallowed, and never where the server has answered', () => {
    const failure = {
      error: { status: 'UNAVAILABLE', reason: '' },
      heard: false,
      refused: false,
      aborted: false,
    } as const;
    expect(afterFailure(failure)).toBe('fail');
    expect(afterFailure({ ...failure, refused: true })).toBe('retry-unary');
    const late = { ...failure, error: { status: 'DEADLINE_EXCEEDED', reason: '' } } as const;
    expect(afterFailure(late)).toBe('stop-sessions');
    for (const known of [
      { heard: true },
      { aborted: true },
      { error: { ...late.error, reason: 'OVERLOADED' } as const },
    ]) {
      expect(afterFailure({ ...late, refused: true, ...known })).toBe('fail');
    }
  });
});
