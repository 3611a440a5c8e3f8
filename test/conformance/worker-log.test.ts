import { Connection, RpcError, Worker, type WorkerOptions, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { freePort } from '../support/processes.js';
import { until } from '../support/until.js';

interface Line {
  readonly event: string;
  readonly level: number;
  readonly msg?: string;
  readonly [key: string]: unknown;
}

describe('a worker', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50 } });
  });
  afterAll(() => perdure.stop());

  const newWorker = (options: Omit<WorkerOptions, 'logger' | 'taskQueue'> & { readonly taskQueue?: string }) => {
    const lines: Line[] = [];
    const write = (line: string) => void lines.push(JSON.parse(line));
    const worker = new Worker({
      taskQueue: `q-${uuid()}`,
      handleSignals: false,
      identity: 'this-host:42',
      ...options,
      logger: pino({ level: 'info' }, { write }),
    });
    return { worker, lines, logged: (event: string) => lines.filter((line) => line.event === event) };
  };
  const nothing = workflow('nothing', async () => undefined);

  it.each([
    ['error', 50, undefined],
    ['warn', 40, 'warn'],
  ] as const)('names the steps that a run did not await, as %s', async (_, level, unawaitedCalls) => {
    const taskQueue = `q-${uuid()}`;
    const careless = workflow('careless', async (ctx) => {
      void ctx.step('forgotten', () => 1);
      const awaited = ctx.step('raced', () => 2);
      await Promise.race([awaited, ctx.sleep('loser', '1h')]);
    });
    const { worker, logged } = newWorker({
      taskQueue,
      workflows: [careless],
      connection: perdure.connection,
      ...(unawaitedCalls === undefined ? {} : { unawaitedCalls }),
    });
    await worker.start();
    await perdure.client.execute(careless, { taskQueue, timeout: '20s' });
    const [line] = await until('the line', () => logged('step_not_awaited').length > 0 && logged('step_not_awaited'));
    expect(line).toMatchObject({ level, workflowType: 'careless', stepIds: ['forgotten'] });
    await worker.shutdown(0);
  });

  it('a worker logs one line for a failed run with its type, step and error, and its own name in every line', async () => {
    const taskQueue = `q-${uuid()}`;
    const declined = workflow('pay', async (ctx) => {
      await ctx.step(
        'charge',
        () => {
          throw new RangeError('card declined');
        },
        { retry: { maxAttempts: 1 } },
      );
    });
    const { worker, lines, logged } = newWorker({ taskQueue, workflows: [declined], connection: perdure.connection });
    await worker.start();
    const handle = await perdure.client.start(declined, undefined, { taskQueue, workflowId: `pay-${taskQueue}` });
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('card declined');
    const [line] = await until('the line', () => logged('run_failed').length > 0 && logged('run_failed'));
    expect(line).toMatchObject({
      level: 40,
      workflowType: 'pay',
      workflowId: `pay-${taskQueue}`,
      runId: handle.runId,
      step: 'charge',
      error: 'RangeError',
      msg: 'card declined',
    });
    await worker.shutdown(0);
    expect(logged('run_failed')).toHaveLength(1);
    expect(lines.map((each) => each.worker)).toEqual(lines.map(() => 'this-host:42'));
  });

  it('logs that a run it holds was terminated, tells its body so, and does not warn of a lost lease', async () => {
    const taskQueue = `q-${uuid()}`;
    const reasons: unknown[] = [];
    let isHeld = false;
    const holding = workflow('holding', (ctx) =>
      ctx.step('hold', ({ signal }) => {
        isHeld = true;
        return new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => {
            reasons.push(signal.reason);
            resolve();
          });
        });
      }),
    );
    const { worker, logged } = newWorker({ taskQueue, workflows: [holding], connection: perdure.connection });
    await worker.start();
    const handle = await perdure.client.start(holding, { taskQueue });
    await until('the body to run', () => isHeld);
    await handle.terminate('no longer needed');
    const [line] = await until('the line', () => logged('run_terminated').length > 0 && logged('run_terminated'));
    expect(line).toMatchObject({ level: 30, runId: handle.runId });
    expect(reasons).toMatchObject([{ name: 'LeaseLostError', message: 'The run was terminated.' }]);
    await worker.shutdown(0);
    expect(logged('lease_lost')).toEqual([]);
  });

  it('says once where it looks for a server that does not answer, and tells when there is one', async () => {
    const address = `127.0.0.1:${await freePort()}`;
    const { worker, logged } = newWorker({ workflows: [nothing], address });
    const started = worker.start();
    const [line] = await until(
      'the line',
      () => logged('server_unavailable').length > 0 && logged('server_unavailable'),
    );
    expect(line).toMatchObject({ level: 40, address });
    expect(line?.msg).toContain(`No Perdure server answers at ${address}.`);
    expect(line?.msg).toContain('PERDURE_ADDRESS');
    await perdure.startServer({ grpcPort: Number(address.split(':')[1]) });
    await started;
    expect(logged('server_available')).toHaveLength(1);
    expect(logged('server_unavailable')).toHaveLength(1);
    await worker.shutdown(0);
  });

  it('a worker whose registration is refused ends: start and run reject with the reason, shutdown returns', async () => {
    const options = { workflows: [nothing], connection: perdure.connection, namespace: 'nowhere' };
    const { worker } = newWorker(options);
    const refusal: unknown = await worker.start().catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(RpcError);
    expect(refusal).toMatchObject({ reason: 'NAMESPACE_NOT_FOUND' });
    await expect(worker.run()).rejects.toBe(refusal);
    await worker.shutdown();
    const other = newWorker(options);
    await expect(other.worker.run()).rejects.toMatchObject({ reason: 'NAMESPACE_NOT_FOUND' });
  });

  it('a worker refuses an invalid grace for its shutdown, and continues', async () => {
    const taskQueue = `q-${uuid()}`;
    const { worker } = newWorker({ taskQueue, workflows: [nothing], connection: perdure.connection });
    await worker.start();
    for (const graceMs of [-1, Number.NaN, '5s' as unknown as number]) {
      await expect(worker.shutdown(graceMs)).rejects.toThrow(/The grace of a shutdown must be 0 ms or more; got/);
    }
    await perdure.client.execute(nothing, undefined, { taskQueue, timeout: '20s' });
    await worker.shutdown(Number.POSITIVE_INFINITY);
    await worker.run();
  });

  it('a worker whose connection is closed early still shuts down', async () => {
    const connection = new Connection({ address: perdure.server.grpcAddress });
    const { worker, logged } = newWorker({ workflows: [nothing], connection });
    await worker.start();
    connection.close();
    await expect(worker.run()).rejects.toThrow(/The connection of the worker was closed while the worker was running/);
    await worker.shutdown();
    expect(logged('connection_closed')).toHaveLength(1);
  });

  it('a worker that cannot decode a run gives it back for longer each time', async () => {
    const taskQueue = `q-${uuid()}`;
    const { worker } = newWorker({
      taskQueue,
      workflows: [nothing],
      connection: perdure.connection,
      // By default it is held after the second time.
      onNonDeterminism: 'fail',
    });
    await worker.start();
    const { runId } = await perdure.workflows.startWorkflow({
      workflowType: 'nothing',
      taskQueue,
      input: { data: new TextEncoder().encode('not valid json{{'), encoding: 'json/devalue' },
    });
    const delays: number[] = [];
    for (let n = 1; n <= 3; n++) {
      const [row] = await until('the run to be given back', async () => {
        const rows = await perdure.database.sql<{ delay_ms: number }[]>`
          select extract(epoch from wake_at - updated_at)::float8 * 1000 as delay_ms from perdure.workflow_runs
          where run_id = ${runId} and status = 'SLEEPING' and lease_token = ${n}`;
        return rows.length > 0 && rows;
      });
      delays.push(Math.round((row?.delay_ms ?? 0) / 1_000));
      await perdure.database.advanceClock(row?.delay_ms ?? 0);
    }
    expect(delays).toEqual([5, 10, 20]);
    await worker.shutdown(0);
  });
});
