import { type Connection, Worker, type Workflow, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate, holdAnswers } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

describe('suspended runs that are kept in memory', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50 } });
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;

  it('a suspended run in memory continues without a replay: the code and each body are executed once', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const bodies: string[] = [];
    const definition = workflow('napper', async (ctx, count: number) => {
      executions++;
      const times = [ctx.now().getTime()];
      for (let n = 0; n < count; n++) {
        await ctx.step('work', () => bodies.push(`${n}`));
        await ctx.sleep('nap', 300);
        times.push(ctx.now().getTime());
      }
      return times;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, 3, { taskQueue });
    const times = await handle.result({ timeout: '20s' });
    expect(executions).toBe(1);
    expect(bodies).toEqual(['0', '1', '2']);
    for (let n = 1; n < times.length; n++) expect((times[n] ?? 0) - (times[n - 1] ?? 0)).toBeGreaterThanOrEqual(300);
    const { run } = await perdure.workflows.getRun({ runId: handle.runId });
    expect(run?.leaseToken).toBe(4);
  });

  it('suspended runs that are evicted are replayed', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const bodies = new Map<number, number>();
    const definition = workflow('crowd', async (ctx, id: number) => {
      executions++;
      await ctx.step('before', () => bodies.set(id, (bodies.get(id) ?? 0) + 1).size);
      await ctx.sleep(600);
      return id;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 2 });
    const handles = await Promise.all([1, 2, 3, 4, 5].map((id) => perdure.client.start(definition, id, { taskQueue })));
    expect(await Promise.all(handles.map((handle) => handle.result({ timeout: '20s' })))).toEqual([1, 2, 3, 4, 5]);
    expect([...bodies.values()]).toEqual([1, 1, 1, 1, 1]);
    // All began once, and those that had been forgotten once more.
    expect(executions).toBe(5 + 3);
  });

  it('a suspended run in memory is replayed once another worker has held the run', async () => {
    const taskQueue = newQueue();
    const bodies = new Map<string, number>();
    const definition = workflow('wanderer', async (ctx) => {
      let sum = 0;
      for (let n = 0; n < 4; n++) {
        sum += await ctx.step('add', () => {
          const key = `${ctx.run.runId}/${n}`;
          bodies.set(key, (bodies.get(key) ?? 0) + 1);
          return n;
        });
        await ctx.sleep(250);
      }
      return sum;
    });
    for (let n = 0; n < 2; n++) await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 100 });
    const starts = Array.from({ length: 40 }, () => ({ input: undefined, options: { taskQueue } }));
    const handles = await perdure.client.startMany(definition, starts);
    const results = handles.map((handle) =>
      'result' in handle ? handle.result({ timeout: '25s' }) : Promise.reject(handle),
    );
    expect(await Promise.all(results)).toEqual(Array.from({ length: 40 }, () => 6));
    expect([...bodies.values()].every((times) => times === 1)).toBe(true);
    expect(bodies.size).toBe(160);
  });

  it('a suspended run in memory sees results in the order in which a replay sees them', async () => {
    const taskQueue = newQueue();
    const seen: string[][] = [];
    const definition = workflow('timers', async (ctx) => {
      const order: string[] = [];
      seen.push(order);
      const names = ['c', 'a', 'd', 'b'];
      await Promise.all(names.map((name, n) => ctx.sleep(name, 400 + n * 3).then(() => order.push(name))));
      await ctx.step('after', () => undefined);
      await ctx.sleep('long', 900);
    });
    const first = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the timers to fire', () => seen[0]?.length === 4);
    await until('the run to sleep again', async () => (await handle.get()).status === 'SLEEPING');
    expect(seen).toHaveLength(1);
    await first.shutdown();
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    await handle.result({ timeout: '20s' });
    expect(seen).toHaveLength(2);
    expect(seen[1]).toEqual(seen[0]);
    expect(new Set(seen[0])).toEqual(new Set(['a', 'b', 'c', 'd']));
  });

  it('a suspended run in memory sees a cancel and cleans up', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const cleaned: string[] = [];
    const definition = workflow('cancelled', async (ctx) => {
      executions++;
      try {
        await ctx.sleep('10m');
      } finally {
        await ctx.uncancellable(() => ctx.step('clean up', () => cleaned.push('done')));
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    await handle.cancel('enough');
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('enough');
    expect([executions, cleaned]).toEqual([1, ['done']]);
  });

  it('a suspended run in memory continues with the next attempt of a step', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    let tries = 0;
    const definition = workflow('retrying', async (ctx) => {
      executions++;
      return ctx.step(
        'flaky',
        ({ attemptNumber }) => {
          tries++;
          if (tries < 3) throw new Error('not yet');
          return attemptNumber;
        },
        { retry: { maxAttempts: 5, backoff: 'fixed', initial: 400, jitter: 0 } },
      );
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const result = await perdure.client.execute(definition, undefined, { taskQueue, timeout: '20s' });
    expect([result, tries, executions]).toEqual([3, 3, 1]);
  });

  it('a suspended run whose code moves is removed from memory and replayed', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const definition = workflow('impatient', async (ctx) => {
      executions++;
      const slept = ctx.sleep('nap', 900);
      // Time of the code's own, which passes while the run is suspended.
      await new Promise((resolve) => setTimeout(resolve, executions === 1 ? 400 : 0));
      const value = await ctx.step('late', () => 7);
      await slept;
      return value;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const result = await perdure.client.execute(definition, undefined, { taskQueue, timeout: '20s' });
    expect(result).toBe(7);
    expect(executions).toBe(2);
  });

  /** A worker that hears late of its suspensions: on the way back the answer takes as long as it does in a slow network. */
  const startSlowWorker = async (connection: Connection, taskQueue: string, definition: Workflow, lateMs: number) => {
    const slow = holdAnswers(connection, {
      suspendRun: () => new Promise((resolve) => setTimeout(resolve, lateMs)),
    });
    const worker = new Worker({
      taskQueue,
      workflows: [definition],
      connection: slow,
      warmRuns: 10,
      logger: pino({ level: 'silent' }),
      handleSignals: false,
    });
    await worker.start();
    return worker;
  };

  it('a run is not kept in memory when a timer fired before the answer to its suspension', async () => {
    // Without a reaper, so that the run does not come back before the answer does.
    const sleepy = await startPerdure({ reaper: false });
    const taskQueue = newQueue();
    let executions = 0;
    const definition = workflow('overtaken', async (ctx) => {
      executions++;
      await Promise.all([ctx.sleep('short', 400), ctx.sleep('long', 1_500)]);
      return 'done';
    });
    const stall = gate();
    let isFirst = true;
    const connection = holdAnswers(sleepy.connection, {
      async suspendRun() {
        if (!isFirst) return;
        isFirst = false;
        await stall.opened;
      },
    });
    const worker = new Worker({
      taskQueue,
      workflows: [definition],
      connection,
      warmRuns: 10,
      logger: pino({ level: 'silent' }),
      handleSignals: false,
    });
    await worker.start();
    const handle = await sleepy.client.start(definition, undefined, { taskQueue });
    await until('the short timer to be due here as well', async () => {
      const rows = await sleepy.database.sql<
        { due: boolean }[]
      >`select fires_at < perdure.clock() - interval '100 ms' as due
        from perdure.step_runs where run_id = ${handle.runId} and step_id = 'short'`;
      return !isFirst && rows[0]?.due;
    });
    stall.open();
    await until('the worker to be free of it', () => worker.running === 0);
    sleepy.startReaper({ maxSleepMs: 50 });
    expect(await handle.result({ timeout: '15s' })).toBe('done');
    // How often it is suspended after that is a matter of time.
    expect(executions).toBeGreaterThanOrEqual(2);
    await worker.shutdown(0);
    await sleepy.stop();
  });

  it('a run is not kept in memory when its code continued before the answer to its suspension', async () => {
    const taskQueue = newQueue();
    const definition = workflow('overtaking', async (ctx) => {
      const slept = ctx.sleep('long', 1_500);
      await new Promise((resolve) => setTimeout(resolve, 300));
      const value = await ctx.step('late', () => 7);
      await slept;
      return value;
    });
    const worker = await startSlowWorker(perdure.connection, taskQueue, definition, 700);
    expect(await perdure.client.execute(definition, undefined, { taskQueue, timeout: '15s' })).toBe(7);
    await worker.shutdown(0);
  });

  it('a run is not kept in memory when its code ended before the answer to its suspension', async () => {
    const taskQueue = newQueue();
    const definition = workflow('outrun', async (ctx) => {
      const slept = ctx.sleep('long', 1_500);
      await Promise.race([slept, new Promise((resolve) => setTimeout(resolve, 300))]);
      return 'done';
    });
    const worker = await startSlowWorker(perdure.connection, taskQueue, definition, 700);
    expect(await perdure.client.execute(definition, undefined, { taskQueue, timeout: '15s' })).toBe('done');
    await worker.shutdown(0);
  });

  it('with warmRuns 0 no suspended run is kept in memory', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const definition = workflow('cold', async (ctx) => {
      executions++;
      await ctx.sleep(300);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    await perdure.client.execute(definition, undefined, { taskQueue, timeout: '20s' });
    expect(executions).toBe(2);
  });

  it('a suspended run in memory is replayed when a step got another outcome meanwhile', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    let tries = 0;
    const definition = workflow('settled', async (ctx) => {
      executions++;
      return ctx.step(
        'stuck',
        (): number => {
          tries++;
          throw new Error('no');
        },
        { retry: { maxAttempts: 5, backoff: 'fixed', initial: '10m' } },
      );
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    const { sql } = perdure.database;
    await sql`update perdure.step_runs set status = 'COMPLETED', failure = null, next_retry_at = null, event_seq = 1,
      output = ${Buffer.from('[42]')}, output_encoding = 'json/devalue' where run_id = ${handle.runId}`;
    await sql`update perdure.workflow_runs set wake_at = now() where run_id = ${handle.runId}`;
    expect(await handle.result({ timeout: '20s' })).toBe(42);
    expect([executions, tries]).toEqual([2, 1]);
  });
});
