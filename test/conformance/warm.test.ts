import { RunStatus } from '@perdure/proto';
import { type RunHandle, Worker, type Workflow, workflow } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate, holdAnswers } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('suspended runs that are kept in memory', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;
  /** Suspended, and the worker has heard of it: whatever it keeps is kept by now. */
  const suspended = async (worker: Worker, ...handles: readonly RunHandle<unknown>[]) => {
    for (const handle of handles) {
      await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    }
    await until('the worker to be free', () => worker.running === 0);
  };

  it('a suspended run in memory continues without a replay: the code and each body are executed once', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const bodies: string[] = [];
    const definition = workflow('napper', async (ctx, count: number) => {
      executions++;
      const times = [ctx.now().getTime()];
      for (let n = 0; n < count; n++) {
        await ctx.step('work', () => bodies.push(`${n}`));
        await ctx.sleep('nap', '1m');
        times.push(ctx.now().getTime());
      }
      return times;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, 3, { taskQueue });
    for (let n = 0; n < 3; n++) await endSleep(perdure, handle.runId);
    const times = await handle.result({ timeout: '20s' });
    expect(executions).toBe(1);
    expect(bodies).toEqual(['0', '1', '2']);
    for (let n = 1; n < times.length; n++) expect((times[n] ?? 0) - (times[n - 1] ?? 0)).toBeGreaterThanOrEqual(60_000);
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
      await ctx.sleep('10m');
      return id;
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 2 });
    const handles = await Promise.all([1, 2, 3, 4, 5].map((id) => perdure.client.start(definition, id, { taskQueue })));
    await suspended(worker, ...handles);
    await endSleep(perdure, ...handles.map(({ runId }) => runId));
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
        await ctx.sleep('1m');
      }
      return sum;
    });
    for (let n = 0; n < 2; n++) await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 100 });
    const starts = Array.from({ length: 40 }, () => ({ input: undefined, options: { taskQueue } }));
    const handles = await perdure.client.startMany(definition, starts);
    const runIds = handles.map((handle) => ('runId' in handle ? handle.runId : ''));
    for (let n = 0; n < 4; n++) await endSleep(perdure, ...runIds);
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
      await Promise.all(names.map((name, n) => ctx.sleep(name, 60_000 + n * 3).then(() => order.push(name))));
      await ctx.step('after', () => undefined);
      await ctx.sleep('long', '10m');
    });
    const first = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await suspended(first, handle);
    await endSleep(perdure, handle.runId);
    await until('the timers to fire', () => seen[0]?.length === 4);
    await suspended(first, handle);
    expect(seen).toHaveLength(1);
    await first.shutdown();
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    await endSleep(perdure, handle.runId);
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
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await suspended(worker, handle);
    await handle.cancel('enough');
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('enough');
    expect([executions, cleaned]).toEqual([1, ['done']]);
  });

  it('hear of a cancel after the timers that had fired before it, as a replay does', async () => {
    const taskQueue = newQueue();
    const seen: string[][] = [];
    const definition = workflow('interrupted napper', async (ctx) => {
      const order: string[] = [];
      seen.push(order);
      ctx.signal.addEventListener('abort', () => order.push('cancel'));
      await ctx.sleep('nap', 300).then(() => order.push(`nap, ${ctx.signal.aborted}`));
      await ctx.uncancellable(() => ctx.sleep('clean-up', 1_500));
    });
    const busy = gate();
    const blocker = workflow('blocker', (ctx) => ctx.step('wait', () => busy.opened));
    const workflows = [definition, blocker];
    const first = await perdure.startWorker({ taskQueue, workflows, warmRuns: 10, concurrency: 1 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    await perdure.client.start(blocker, undefined, { taskQueue });
    // There is no slot for the run when its timer has fired, so that the cancel comes before the next claim.
    await until('the timer to fire', async () => (await handle.get()).status === 'PENDING');
    await handle.cancel();
    busy.open();
    await until('the run to clean up', async () => (await handle.get()).status === 'SLEEPING');
    expect(seen).toHaveLength(1);
    await first.shutdown();
    await perdure.startWorker({ taskQueue, workflows, warmRuns: 10 });
    await handle.result({ timeout: '20s' });
    expect(seen).toHaveLength(2);
    expect(seen[1]).toEqual(['nap, false', 'cancel']);
    expect(seen[0]).toEqual(seen[1]);
  });

  it('continue with the next attempt of a step', async () => {
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
        { retry: { maxAttempts: 5, backoff: 'fixed', initial: '1m', jitter: 0 } },
      );
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    for (let n = 0; n < 2; n++) {
      await until('the attempt to fail', () => tries === n + 1);
      await suspended(worker, handle);
      await endSleep(perdure, handle.runId);
    }
    expect(await handle.result({ timeout: '20s' })).toBe(3);
    expect([tries, executions]).toEqual([3, 1]);
  });

  it('a suspended run whose code moves is removed from memory and replayed', async () => {
    const taskQueue = newQueue();
    const [itsOwn, moved] = [gate(), gate()];
    let executions = 0;
    const definition = workflow('impatient', async (ctx) => {
      executions++;
      const slept = ctx.sleep('nap', '10m');
      // Something of the code's own, which comes while the run is suspended.
      await itsOwn.opened;
      const late = ctx.step('late', () => 7);
      moved.open();
      const value = await late;
      await slept;
      return value;
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 10 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await suspended(worker, handle);
    itsOwn.open();
    await moved.opened;
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '20s' })).toBe(7);
    expect(executions).toBe(2);
  });

  /** A worker whose first suspension is known to the server before the worker hears of it: not until `known` opens. */
  const startSlowWorker = async ({ connection }: TestPerdure, taskQueue: string, definition: Workflow) => {
    const [suspended, known] = [gate(), gate()];
    let isFirst = true;
    const slow = holdAnswers(connection, {
      async suspendRun() {
        if (!isFirst) return;
        isFirst = false;
        suspended.open();
        await known.opened;
      },
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
    return { worker, suspended, known };
  };

  it('are not kept when a timer fired before they heard of their suspension', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const definition = workflow('overtaken', async (ctx) => {
      executions++;
      await Promise.all([ctx.sleep('short', 1_000), ctx.sleep('long', '10m')]);
      return 'done';
    });
    // Without a reaper, so that the run does not come back before the answer does.
    const sleepy = await startPerdure({ reaper: false });
    const { worker, suspended: given, known } = await startSlowWorker(sleepy, taskQueue, definition);
    const handle = await sleepy.client.start(definition, undefined, { taskQueue });
    await given.opened;
    await until('the short timer to be due here as well', async () => {
      const [row] = await sleepy.database.sql<{ due: boolean }[]>`
        select fires_at < perdure.clock() - interval '100 ms' as due
        from perdure.step_runs where run_id = ${handle.runId} and step_id = 'short'`;
      return row?.due;
    });
    known.open();
    await until('the worker to be free of it', () => worker.running === 0);
    sleepy.startReaper(CLOCK_MOVING_REAPER);
    await until('the run to sleep for the other timer alone', async () => {
      const { run } = await sleepy.workflows.getRun({ runId: handle.runId });
      return run?.status === RunStatus.SLEEPING && run.leaseToken > 1;
    });
    await endSleep(sleepy, handle.runId);
    expect(await handle.result({ timeout: '15s' })).toBe('done');
    expect(executions).toBeGreaterThanOrEqual(2);
    await worker.shutdown(0);
    await sleepy.stop();
  });

  it('a run is not kept in memory when its code continued before the answer to its suspension', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const [late, moved] = [gate(), gate()];
    const definition = workflow('overtaking', async (ctx) => {
      executions++;
      const slept = ctx.sleep('long', '10m');
      await late.opened;
      const step = ctx.step('late', () => 7);
      moved.open();
      const value = await step;
      await slept;
      return value;
    });
    const { worker, suspended: given, known } = await startSlowWorker(perdure, taskQueue, definition);
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await given.opened;
    late.open();
    await moved.opened;
    known.open();
    await until('the worker to be free of it', () => worker.running === 0);
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '15s' })).toBe(7);
    expect(executions).toBeGreaterThanOrEqual(2);
    await worker.shutdown(0);
  });

  it('a run is not kept in memory when its code ended before the answer to its suspension', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const [late, ended] = [gate(), gate()];
    const definition = workflow('outrun', async (ctx) => {
      executions++;
      const slept = ctx.sleep('long', '10m');
      await Promise.race([slept, late.opened]);
      // After the end: the turn of the event loop in which the function returns is over by then.
      setImmediate(ended.open);
      return 'done';
    });
    const { worker, suspended: given, known } = await startSlowWorker(perdure, taskQueue, definition);
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await given.opened;
    late.open();
    await ended.opened;
    known.open();
    await until('the worker to be free of it', () => worker.running === 0);
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '15s' })).toBe('done');
    expect(executions).toBeGreaterThanOrEqual(2);
    await worker.shutdown(0);
  });

  it('with warmRuns 0 no suspended run is kept in memory', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const definition = workflow('cold', async (ctx) => {
      executions++;
      await ctx.sleep('10m');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await endSleep(perdure, handle.runId);
    await handle.result({ timeout: '20s' });
    expect(executions).toBe(2);
  });

  it('a suspended run in memory continues with the outcome that a step got from outside meanwhile', async () => {
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
    await sql`update perdure.step_runs set status = 'COMPLETED', failure = null, next_retry_at = null, event_seq = null, is_arrived = true,
      output = ${Buffer.from('[42]')}, output_encoding = 'json/devalue' where run_id = ${handle.runId}`;
    await sql`update perdure.workflow_runs set wake_at = perdure.clock(), has_arrivals = true where run_id = ${handle.runId}`;
    expect(await handle.result({ timeout: '20s' })).toBe(42);
    expect([executions, tries]).toEqual([1, 1]);
  });
});
