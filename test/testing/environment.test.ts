import { activity, signal, workflow } from '@perdure/worker-sdk';
import { createTestEnvironment, expectHistory, type TestEnvironment } from '@perdure/worker-sdk/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

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

  it('skips a year of daily sleeps', async () => {
    const beganMs = performance.now();
    expect(await env.run(yearly)).toBeGreaterThanOrEqual(365 * DAY_MS);
    console.log(`a year of daily sleeps: ${Math.round(performance.now() - beganMs)} ms`);
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
