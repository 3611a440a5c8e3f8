import {
  aesGcmCodec,
  CancelledError,
  Client,
  InvalidInputError,
  signal,
  WorkflowCancelledError,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

const go = signal<number>('go');
const stop = signal('stop');

describe('signals', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;
  const isWaiting = (runId: string) =>
    until('the run to wait', async () => (await perdure.client.handle(runId).get()).status === 'WAITING');

  it.each([
    ['warm', 100],
    ['cold', 0],
  ])('wake a suspended run, which continues with what was sent (%s)', async (_, warmRuns) => {
    const taskQueue = newQueue();
    const bodies: number[] = [];
    const definition = workflow('waits', async (ctx) => {
      const first = await ctx.waitForSignal(go);
      await ctx.step('after', () => void bodies.push(first));
      return first + (await ctx.waitForSignal(go));
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await handle.signal(go, 40);
    await until('the step', async () => bodies.length === 1);
    await isWaiting(handle.runId);
    await perdure.client.signal({ workflowId: handle.workflowId }, go, 2);
    expect(await handle.result({ timeout: '20s' })).toBe(42);
    expect(bodies).toEqual([40]);
  });

  it('are kept from the start, and received in the order of sending, each once', async () => {
    const taskQueue = newQueue();
    const definition = workflow('collects', async (ctx) => {
      const got: number[] = [];
      for await (const n of ctx.signals(go)) {
        got.push(n);
        if (got.length === 50) break;
      }
      return got;
    });
    const handle = await perdure.client.start(definition, { taskQueue });
    const sent = Array.from({ length: 50 }, (_, n) => n);
    for (const n of sent.slice(0, 25)) await handle.signal(go, n, { requestId: `r${n}` });
    await handle.signal(go, 0, { requestId: 'r0' });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    for (const n of sent.slice(25)) await handle.signal(go, n);
    expect(await handle.result({ timeout: '20s' })).toEqual(sent);
  });

  it('reach a run whose code is doing something else meanwhile', async () => {
    const taskQueue = newQueue();
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const seen: string[] = [];
    const definition = workflow('both', async (ctx) => {
      const body = ctx.step('long', () => released);
      const wait = ctx.waitForSignal(go).then((n) => {
        seen.push(`signal ${n}`);
        return ctx.step('on signal', () => release());
      });
      await Promise.all([body.then(() => seen.push('body')), wait]);
      return seen;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until(
      'the body',
      async () => (await perdure.workflows.describeRun({ runId: handle.runId })).currentSteps.length === 2,
    );
    await handle.signal(go, 7);
    expect(await handle.result({ timeout: '20s' })).toEqual(['signal 7', 'body']);
  });

  it('do not come in time, or are not there at all: null', async () => {
    const taskQueue = newQueue();
    const definition = workflow('timeouts', async (ctx) => {
      const none = await ctx.waitForSignal(go, { timeout: 0 });
      const late = await ctx.waitForSignal(go, { timeout: '1 hour' });
      return [none, late, await ctx.waitForSignal(go)];
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await endSleep(perdure, handle.runId);
    await until(
      'the second wait',
      async () => (await perdure.workflows.getHistory({ runId: handle.runId })).steps.length === 3,
    );
    await handle.signal(go, 3);
    expect(await handle.result({ timeout: '20s' })).toEqual([null, null, 3]);
  });

  it('race a sleep and each other; the loser keeps its meaning in a replay', async () => {
    const taskQueue = newQueue();
    const definition = workflow('races', async (ctx) => {
      const winner = await Promise.race([
        ctx.sleep('1 hour').then(() => 'sleep'),
        ctx.waitForSignal(go).then((n) => `go ${n}`),
        ctx.waitForSignal(stop).then(() => 'stop'),
      ]);
      await ctx.waitForSignal('more');
      return winner;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await handle.signal(go, 1);
    await until(
      'the second wait',
      async () => (await perdure.workflows.getHistory({ runId: handle.runId })).steps.length === 4,
    );
    await isWaiting(handle.runId);
    await handle.signal(stop);
    await handle.signal('more');
    expect(await handle.result({ timeout: '20s' })).toBe('go 1');
  });

  it('are checked by their schema, by the sender and in the workflow', async () => {
    const taskQueue = newQueue();
    const paid = signal('paid', z.object({ amount: z.number().positive() }));
    const definition = workflow('checks', async (ctx) => (await ctx.waitForSignal(paid)).amount);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await expect(handle.signal(paid, { amount: -1 })).rejects.toThrow(InvalidInputError);
    await handle.signal('paid', { amount: 'much' });
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({
      cause: { message: expect.stringContaining("signal 'paid' does not fit its schema: amount") },
    });
  });

  it('go from run to run, exactly once', async () => {
    const taskQueue = newQueue();
    const receiver = workflow('receiver', async (ctx) => [
      await ctx.waitForSignal(go),
      await ctx.waitForSignal(go, { timeout: 0 }),
    ]);
    const sender = workflow('sender', async (ctx, to: string) => {
      await ctx.signalRun({ workflowId: to }, go, 5);
      await ctx.step('last', () => undefined);
    });
    await perdure.startWorker({ taskQueue, workflows: [receiver, sender], warmRuns: 0 });
    const to = await perdure.client.start(receiver, { taskQueue });
    await perdure.client.execute(sender, to.workflowId, { taskQueue, timeout: '20s' });
    expect(await to.result({ timeout: '20s' })).toEqual([5, null]);
  });

  it('in plain JSON, as the command line sends them, are received also by a run whose codec encrypts', async () => {
    const taskQueue = newQueue();
    const codec = aesGcmCodec({ keys: { k: new Uint8Array(32).fill(7) }, activeKey: 'k' });
    const client = new Client({ connection: perdure.connection, codec });
    const definition = workflow('sealed', async (ctx) => [await ctx.waitForSignal(go), await ctx.waitForSignal(go)]);
    await perdure.startWorker({ taskQueue, workflows: [definition], codec });
    const handle = await client.start(definition, { taskQueue });
    const payload = { encoding: 'json', data: new TextEncoder().encode('1') };
    await perdure.workflows.signalRun({ runId: handle.runId, name: 'go', payload });
    await handle.signal(go, 2);
    expect(await handle.result({ timeout: '20s' })).toEqual([1, 2]);
  });

  it('to a run that has ended or does not exist are refused with what to know', async () => {
    const taskQueue = newQueue();
    const definition = workflow('ends', async () => 'done');
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await handle.result({ timeout: '20s' });
    await expect(handle.signal(go, 1)).rejects.toMatchObject({ reason: 'RUN_CLOSED' });
    await expect(perdure.client.handle(uuid()).signal(go, 1)).rejects.toMatchObject({ reason: 'RUN_NOT_FOUND' });
  });

  it('are no longer awaited by a run that is cancelled, except in its clean-up', async () => {
    const taskQueue = newQueue();
    const definition = workflow('cancelled', async (ctx) => {
      try {
        await ctx.waitForSignal(go);
      } catch (error) {
        const last = await ctx.uncancellable(() => ctx.waitForSignal(stop));
        throw error instanceof CancelledError ? error : last;
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await handle.cancel();
    await until(
      'the clean-up',
      async () => (await perdure.workflows.getHistory({ runId: handle.runId })).steps.length === 2,
    );
    await isWaiting(handle.runId);
    await handle.signal(stop);
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow(WorkflowCancelledError);
  });

  it('that a retried attempt of the run had received are received again', async () => {
    const taskQueue = newQueue();
    let attempts = 0;
    const definition = workflow('retried', { retry: { maxAttempts: 2, backoff: 'fixed', initial: 1 } }, async (ctx) => {
      attempts++;
      await ctx
        .step(
          'maybe',
          () => {
            if (attempts === 1) throw new Error('not yet');
          },
          { retry: { maxAttempts: 1 } },
        )
        .catch(async (error) => {
          await ctx.waitForSignal(go);
          throw error;
        });
      return ctx.waitForSignal(go);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await handle.signal(go, 9);
    expect(await handle.result({ timeout: '20s' })).toBe(9);
  });
});
