import { activity, Connection, signal, workflow } from '@perdure/worker-sdk';
import { createTestEnvironment, expectHistory, type TestEnvironment } from '@perdure/worker-sdk/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countCalls } from '../support/counted-calls.js';

const DAY_MS = 86_400_000;

const greet = workflow('greet', async (ctx, name: string) => {
  const text = await ctx.step('compose', () => `Hello, ${name}!`);
  await ctx.step('deliver', () => undefined);
  return text;
});
const yearly = workflow('yearly', async (ctx) => {
  for (let day = 0; day < 365; day++) await ctx.sleep('a day', '1 day');
  return ctx.now().getTime() - ctx.run.createdAt.getTime();
});
const approved = signal<string>('approved');
const approval = workflow('approval', async (ctx) => {
  await ctx.sleep('cool-off', '1 day');
  return (await ctx.waitForSignal(approved, { timeout: '30 days' })) ?? 'nobody';
});

describe('a test environment', () => {
  let env: TestEnvironment;
  beforeAll(async () => {
    env = await createTestEnvironment();
  });
  afterAll(() => env.close());

  it('executes a workflow that it is given', async () => {
    expect(await env.run(greet, 'Ada')).toBe('Hello, Ada!');
    expect(env.calls('compose')).toMatchObject([{ workflowType: 'greet', outcome: { value: 'Hello, Ada!' } }]);
  });

  it('skips a year of daily sleeps, with three calls of the worker for each and no replay', async () => {
    const connection = new Connection({ address: env.address });
    const counted = countCalls(connection);
    const options = { taskQueue: 'year', workflows: [yearly], connection: counted.connection };
    const worker = await env.worker(options);
    const beganMs = performance.now();
    expect(await env.run(yearly, undefined, { taskQueue: 'year' })).toBeGreaterThanOrEqual(365 * DAY_MS);
    console.log(`a year of daily sleeps: ${Math.round(performance.now() - beganMs)} ms`);
    const { calls } = counted;
    expect(calls.get('scheduleSleep')).toBe(365);
    expect(calls.get('suspendRun')).toBe(365);
    expect(calls.get('getMemo') ?? 0).toBe(0);
    // One for each claim, and those that waited in between.
    expect(calls.get('pollActivity')).toBeLessThan(2 * 366);
    await worker.shutdown(0);
    connection.close();
    // On a busy machine a skip takes many times as long.
  }, 300_000);

  it('lets a test act while a run waits, and skips the rest', async () => {
    const run = await env.start(approval);
    await env.untilWaiting(run, 'approved');
    await run.signal(approved, 'Grace');
    expect(await run.result()).toBe('Grace');

    const before = await env.now();
    expect(await env.run(approval)).toBe('nobody');
    expect((await env.now()).getTime() - before.getTime()).toBeGreaterThanOrEqual(31 * DAY_MS);
    await expectHistory(run).toMatch([
      { step: 'cool-off', kind: 'sleep', status: 'completed' },
      { step: 'approved', kind: 'signal', output: 'Grace' },
    ]);
  });

  it('replaces bodies by step name, in one workflow or run alone, and restores them', async () => {
    const everywhere = env.stub('compose', () => 'stubbed');
    expect(await env.run(greet, 'Ada')).toBe('stubbed');
    const here = env.stub('compose', async (_, { original }) => `${await original()}!!`, { workflow: greet });
    expect(await env.run(greet, 'Ada')).toBe('Hello, Ada!!!');
    here.restore();
    expect(await env.run(greet, 'Ada')).toBe('stubbed');
    everywhere.restore();
    expect(await env.run(greet, 'Ada')).toBe('Hello, Ada!');
    expect([everywhere.calls.length, everywhere.effects, here.calls.length]).toEqual([2, 2, 1]);
  });

  it('waits for the open run of a chain, whichever of its runs it is asked about', async () => {
    const chain = workflow('chain', async (ctx, left: number): Promise<string> => {
      await ctx.sleep('a day', '1 day');
      if (left > 0) return ctx.continueAsNew(left - 1);
      const who = await ctx.waitForSignal(approved);
      await ctx.sleep('another day', '1 day');
      return who;
    });
    const run = await env.start(chain, 2);
    await env.untilWaiting(run, 'approved');
    await run.signal(approved, 'Grace');
    expect(await run.result({ timeout: '20s' })).toBe('Grace');
  });

  it('does not skip time when a run comes to wait while facts are looked up', async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const gated = workflow('gated', async (ctx) => {
      await ctx.step('gate', () => gate);
      return ctx.waitForSignal(approved, { timeout: '30 days' });
    });
    const run = await env.start(gated);
    await env.until(() => env.calls('gate').length > 0);
    const before = await env.now();
    const look = async () => {
      const { status } = await run.get();
      open();
      while ((await run.get()).status !== 'WAITING');
      return status === 'WAITING';
    };
    await env.until(look);
    expect((await env.now()).getTime() - before.getTime()).toBeLessThan(DAY_MS);
    await run.signal(approved, 'in time');
    expect(await run.result()).toBe('in time');
  });

  it('observes and replaces the bodies of compensations, also of sagas in sagas', async () => {
    const undone: string[] = [];
    const trip = workflow('trip', async (ctx) => {
      ctx.onCompensate('flight', () => void undone.push('flight'));
      await ctx.saga(async (outer) => {
        outer.onCompensate('boat', () => void undone.push('boat'));
        await outer.saga(async (inner) => inner.onCompensate('cabin', async () => void undone.push('cabin')));
      });
      throw new Error('There is a storm.');
    });
    const stub = env.stub('compensate:boat', async (_, { original }) => {
      undone.push('stub');
      await original();
    });
    await expect(env.run(trip)).rejects.toThrow('There is a storm.');
    expect(undone).toEqual(['cabin', 'stub', 'boat', 'flight']);
    expect(stub.effects).toBe(1);
    expect(env.calls('compensate:cabin')).toMatchObject([{ workflowType: 'trip', outcome: { kind: 'returned' } }]);
  });

  it('replaces activities on any task queue', async () => {
    const resize = activity('resize', (width: number): string => `real ${width}`);
    const album = workflow('album', (ctx) => ctx.call(resize, 200, { taskQueue: 'images' }));
    const stub = env.stub(resize, (width) => `stub ${width}`);
    expect(await env.run(album)).toBe('stub 200');
    expect(stub.calls).toHaveLength(1);
  });

  it('a worker that is started while a body is at work is no part of that body', async () => {
    const triple = activity('triple', (n: number) => 3 * n);
    const starting = workflow('starting', async (ctx) => {
      await ctx.step('start', async () => void (await env.worker({ taskQueue: 'late', workflows: [triple] })));
      return ctx.call(triple, 2, { taskQueue: 'late' });
    });
    expect(await env.run(starting)).toBe(6);
  });

  it('advances by exactly what it is told, one due time after the other', async () => {
    const manual = await createTestEnvironment({ timeSkips: 'manual' });
    const seen: number[] = [];
    const ticking = workflow('ticking', async (ctx) => {
      for (let n = 0; n < 5; n++) {
        await ctx.sleep('tick', '1 day');
        await ctx.step('note', () => void seen.push(n));
      }
    });
    const run = await manual.start(ticking);
    await manual.advance('1 hour');
    expect(seen).toEqual([]);
    await manual.advance('3 days');
    expect(seen).toEqual([0, 1, 2]);
    await manual.advance('10 days');
    await run.result();
    expect(seen).toEqual([0, 1, 2, 3, 4]);
    await manual.close();
  });
});
