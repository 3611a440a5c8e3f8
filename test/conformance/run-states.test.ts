import { WorkerService } from '@perdure/proto';
import { workflow } from '@perdure/worker-sdk';
import { withService } from '@perdure/worker-sdk/testing';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('the state of a run', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { ...CLOCK_MOVING_REAPER, reclaimBackoffMs: 10 } });
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;

  /** Notes the calls that workers make about runs, with the states that they set. */
  const noting = (calls: string[]) => {
    const real = perdure.connection.service(WorkerService);
    const decode = (state: { readonly data?: Uint8Array } | undefined) => Buffer.from(state?.data ?? []).toString();
    const noted = new Proxy(real, {
      get(target, method: keyof typeof real) {
        return (request: { readonly state?: { readonly data?: Uint8Array } }, ...rest: never[]) => {
          if (method === 'setRunState') calls.push(`setRunState ${decode(request.state)}`);
          else if (/Step|Workflow|suspend/.test(method)) calls.push(method);
          return (target[method] as (...args: unknown[]) => unknown)(request, ...rest);
        };
      },
    });
    return withService(perdure.connection, (service) =>
      service === (WorkerService as never) ? noted : perdure.connection.service(service),
    );
  };

  it('is readable while the run works, sleeps, and after its end, with no worker', async () => {
    const taskQueue = newQueue();
    const working = gate();
    const definition = workflow('states', async (ctx) => {
      ctx.setState({ at: 'work', items: [1, 2] });
      await ctx.step('work', () => working.opened);
      ctx.setState({ at: 'sleep' });
      await ctx.sleep('1 hour');
      ctx.setState({ at: 'end' });
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('the first state', async () => (await handle.state()) !== undefined);
    expect(await handle.state()).toEqual({ at: 'work', items: [1, 2] });
    working.open();
    await until('the sleep', async () => (await handle.get()).status === 'SLEEPING');
    expect(await handle.state()).toEqual({ at: 'sleep' });
    await endSleep(perdure, handle.runId);
    await handle.result({ timeout: '20s' });
    await worker.shutdown();
    expect(await perdure.client.state({ workflowId: handle.workflowId })).toEqual({ at: 'end' });
    await handle.delete();
    await expect(handle.state()).rejects.toMatchObject({ reason: 'RUN_NOT_FOUND' });
  });

  it('costs the code no wait: many in one go are one call, and the last is stored before the end', async () => {
    const taskQueue = newQueue();
    const calls: string[] = [];
    const definition = workflow('many', async (ctx) => {
      for (let n = 0; n < 1_000; n++) ctx.setState(n);
      await ctx.step('a', () => 1);
      for (let n = 1_000; n < 2_000; n++) ctx.setState(n);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], connection: noting(calls) });
    const handle = await perdure.client.start(definition, { taskQueue });
    await handle.result({ timeout: '20s' });
    expect(await handle.state()).toBe(1_999);
    expect(calls.filter((call) => call.startsWith('setRunState'))).toHaveLength(2);
    expect(calls.at(-1)).toBe('completeWorkflow');
  });

  it('is sent by a replay once, when everything recorded has been delivered: the value that the code has come to', async () => {
    const taskQueue = newQueue();
    const calls: string[] = [];
    const definition = workflow('replays', async (ctx) => {
      for (let n = 1; n <= 5; n++) {
        await ctx.step(`s${n}`, () => n);
        ctx.setState(`at ${n}`);
      }
      await ctx.sleep('1 hour');
      await ctx.step('after', () => undefined);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0, connection: noting(calls) });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('the sleep', async () => (await handle.get()).status === 'SLEEPING');
    const before = calls.length;
    await endSleep(perdure, handle.runId);
    await handle.result({ timeout: '20s' });
    const sent = calls.slice(before).filter((call) => call.startsWith('setRunState'));
    expect(sent).toHaveLength(1);
    expect(sent[0]).toContain('at 5');
  });

  it('is stored before the run suspends and ends, although its calls are slow', async () => {
    const taskQueue = newQueue();
    const held = gate();
    const real = perdure.connection.service(WorkerService);
    const slow = {
      ...real,
      setRunState: async (...args: Parameters<typeof real.setRunState>) => {
        await held.opened;
        return real.setRunState(...args);
      },
    };
    const connection = withService(perdure.connection, (service) =>
      service === (WorkerService as never) ? slow : perdure.connection.service(service),
    );
    const seen: string[] = [];
    const definition = workflow('slow', async (ctx) => {
      ctx.setState('set');
      await ctx.step('not held up', () => void seen.push('step'));
      ctx.setState('set again');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], connection });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('the step', async () => {
      const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
      return steps.some(({ finishedAt }) => finishedAt !== undefined);
    });
    expect(seen).toEqual(['step']);
    expect((await handle.get()).status).toBe('RUNNING');
    held.open();
    await handle.result({ timeout: '20s' });
    expect(await handle.state()).toBe('set again');
  });

  it('a failed run keeps the state that it had', async () => {
    const taskQueue = newQueue();
    const definition = workflow('fails', async (ctx) => {
      ctx.setState('last words');
      throw new Error('no');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('no');
    expect(await handle.state()).toBe('last words');
  });
});
