import {
  activity,
  CancelledError,
  ChildCancelledError,
  ChildFailedError,
  ChildNotStartedError,
  ChildTerminatedError,
  signal,
  TerminalError,
  WorkflowFailedError,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

const go = signal<number>('go');
const double = workflow('double', async (ctx, n: number) => ctx.step('double', () => n * 2));
const holds = workflow('holds', async (ctx, _: undefined) => ctx.waitForSignal(go));
const fails = workflow('fails', async (ctx) =>
  ctx.step('break', () => {
    throw new TerminalError('It broke.', { code: 'E_BROKEN' });
  }),
);

describe('children', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;
  const statusOf = async (runId: string) => (await perdure.client.handle(runId).get()).status;
  const claims = async (runId: string) => {
    const [row] = await perdure.database.sql<{ lease_token: number }[]>`
      select lease_token from perdure.workflow_runs where run_id = ${runId}`;
    return row?.lease_token ?? 0;
  };
  const isWaiting = (runId: string) => until('the run to wait', async () => (await statusOf(runId)) === 'WAITING');
  const childrenOf = async (parentRunId: string) => (await perdure.workflows.listRuns({ parentRunId })).runs;

  it.each([
    ['warm', 100],
    ['cold', 0],
  ])('return their results to a suspended parent, on other task queues too (%s)', async (_, warmRuns) => {
    const [taskQueue, elsewhere] = [newQueue(), newQueue()];
    const bodies: string[] = [];
    const parent = workflow('parent', async (ctx, n: number) => {
      const first = await ctx.child(double, n);
      await ctx.step('between', () => void bodies.push('between'));
      return [first, await ctx.child(double, first, { taskQueue: elsewhere })];
    });
    await perdure.startWorker({ taskQueue, workflows: [parent, double], warmRuns });
    const handle = await perdure.client.start(parent, 5, { taskQueue, workflowId: `p-${taskQueue}` });
    await until('the second child', async () => (await childrenOf(handle.runId)).length === 2);
    await isWaiting(handle.runId);
    await perdure.startWorker({ taskQueue: elsewhere, workflows: [double] });
    expect(await handle.result({ timeout: '20s' })).toEqual([10, 20]);
    expect(bodies).toEqual(['between']);
    expect((await childrenOf(handle.runId)).map(({ workflowId }) => workflowId)).toEqual([
      `p-${taskQueue}/double#2`,
      `p-${taskQueue}/double`,
    ]);
  });

  it('have a handle at once: its ids are the same in every replay', async () => {
    const taskQueue = newQueue();
    const seen: string[] = [];
    const parent = workflow('handles', async (ctx) => {
      await ctx.step('before', () => undefined);
      const child = ctx.startChild(holds, undefined, { name: 'held' });
      seen.push(child.runId, child.workflowId);
      await child.signal(go, 7);
      await ctx.step('after', () => undefined);
      return child.result();
    });
    await perdure.startWorker({ taskQueue, workflows: [parent, holds], warmRuns: 0 });
    const handle = await perdure.client.start(parent, { taskQueue });
    expect(await handle.result({ timeout: '20s' })).toBe(7);
    expect(new Set(seen).size).toBe(2);
    expect((await childrenOf(handle.runId)).map(({ runId }) => runId)).toEqual([seen[0]]);
  });

  it('fail with an error that names them, and whose cause is their own error', async () => {
    const taskQueue = newQueue();
    let caught: unknown;
    const inner = workflow('inner', async (ctx) => ctx.child(fails));
    const outer = workflow('outer', async (ctx) => {
      try {
        return await ctx.child(inner);
      } catch (error) {
        caught = error;
        throw error;
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [outer, inner, fails] });
    const handle = await perdure.client.start(outer, { taskQueue });
    const error = await handle.result({ timeout: '20s' }).catch((thrown: unknown) => thrown);
    expect(caught).toBeInstanceOf(ChildFailedError);
    expect(error).toBeInstanceOf(WorkflowFailedError);
    const [failed] = await childrenOf(handle.runId);
    for (const child of [caught, (error as WorkflowFailedError).cause]) {
      expect(child).toMatchObject({
        name: 'ChildFailedError',
        runId: failed?.runId,
        workflowType: 'inner',
        cause: { name: 'ChildFailedError', workflowType: 'fails', cause: { message: 'It broke.', code: 'E_BROKEN' } },
      });
      expect((child as ChildFailedError).cause).toBeInstanceOf(ChildFailedError);
    }
  });

  it('that are cancelled, terminated or not started fail in ways of their own', async () => {
    const taskQueue = newQueue();
    const parent = workflow('sees', async (ctx) => {
      const children = [1, 2].map((n) =>
        ctx.startChild(holds, undefined, { name: `child ${n}`, workflowId: `${n} ${taskQueue}` }),
      );
      const taken = await ctx
        .child(holds, undefined, { workflowId: `1 ${taskQueue}` })
        .catch((error: unknown) => error);
      await children[0]?.cancel('enough');
      const errors = await Promise.all(children.map((child) => child.result().catch((error: unknown) => error)));
      return [taken, ...errors].map((error) => [
        error instanceof ChildFailedError,
        error instanceof ChildNotStartedError,
        error instanceof ChildCancelledError,
        error instanceof ChildTerminatedError,
        (error as Error).message,
      ]);
    });
    await perdure.startWorker({ taskQueue, workflows: [parent, holds], warmRuns: 0 });
    const handle = await perdure.client.start(parent, { taskQueue });
    await isWaiting(handle.runId);
    await perdure.client
      .handle((await childrenOf(handle.runId)).find(({ workflowId }) => workflowId.startsWith('2'))?.runId ?? '')
      .terminate();
    expect(await handle.result({ timeout: '20s' })).toEqual([
      [true, true, false, false, expect.stringContaining(`'1 ${taskQueue}'`)],
      [true, false, true, false, expect.stringContaining('enough')],
      [true, false, false, true, expect.stringContaining('terminated')],
    ]);
  });

  it('are closed with their parent, each as its start says, down to the grandchildren', async () => {
    const taskQueue = newQueue();
    let cleaned = 0;
    const leaf = workflow('leaf', async (ctx) => {
      try {
        await ctx.waitForSignal(go);
      } catch (error) {
        cleaned++;
        throw error;
      }
    });
    const middle = workflow('middle', async (ctx) => ctx.child(leaf));
    const parent = workflow('closes', async (ctx) => {
      ctx.startChild(middle, undefined, { name: 'cancelled' });
      ctx.startChild(middle, undefined, { name: 'terminated', parentClose: 'terminate' });
      ctx.startChild(holds, undefined, { name: 'abandoned', parentClose: 'abandon' });
      await ctx.waitForSignal(go);
    });
    await perdure.startWorker({ taskQueue, workflows: [parent, middle, leaf, holds], warmRuns: 0 });
    const handle = await perdure.client.start(parent, { taskQueue, workflowId: taskQueue });
    const tree = async () => (await perdure.workflows.getRunTree({ runId: handle.runId })).nodes;
    await until('the grandchildren', async () => {
      const nodes = await tree();
      return nodes.length === 6 && nodes.every(({ run }) => run?.status === 4);
    });
    await handle.signal(go, 1);
    await handle.result({ timeout: '20s' });
    const statuses = async () =>
      Object.fromEntries(
        await Promise.all(
          (await tree()).map(async ({ run }) => [
            run?.workflowId.slice(taskQueue.length),
            await statusOf(run?.runId ?? ''),
          ]),
        ),
      );
    await until('all but one to end', async () => {
      const open = Object.values(await statuses()).filter((status) => !/ED$/.test(String(status)));
      return open.length === 1;
    });
    expect(await statuses()).toEqual({
      '': 'COMPLETED',
      '/cancelled': 'CANCELLED',
      '/cancelled/leaf': 'CANCELLED',
      '/terminated': 'TERMINATED',
      '/terminated/leaf': 'CANCELLED',
      '/abandoned': 'WAITING',
    });
    expect(cleaned).toBe(2);
  });

  it('are cancelled when the wait of their parent is', async () => {
    const taskQueue = newQueue();
    const parent = workflow('cancelled parent', async (ctx) => {
      try {
        return await ctx.child(holds);
      } catch (error) {
        // The parent continues, and its child ends meanwhile.
        await ctx.uncancellable(() => ctx.waitForSignal(go));
        return error instanceof CancelledError ? 'cleaned up' : 'failed';
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [parent, holds], warmRuns: 0 });
    const handle = await perdure.client.start(parent, { taskQueue });
    await isWaiting(handle.runId);
    await handle.cancel();
    await until('the child to be cancelled', async () => {
      const [child] = await childrenOf(handle.runId);
      return child !== undefined && (await statusOf(child.runId)) === 'CANCELLED';
    });
    await handle.signal(go, 1);
    expect(await handle.result({ timeout: '20s' })).toBe('cleaned up');
  });

  it('that failed are started again by a retry of the run, and those of steps that are cut are closed', async () => {
    const taskQueue = newQueue();
    let attempts = 0;
    const flaky = workflow('flaky', async (ctx) =>
      ctx.step(
        'try',
        () => {
          if (++attempts === 1) throw new Error('not yet');
          return attempts;
        },
        { retry: { maxAttempts: 1 } },
      ),
    );
    const parent = workflow('retried', { retry: { maxAttempts: 2, backoff: 'fixed', initial: 1 } }, async (ctx) => {
      try {
        return await ctx.child(flaky);
      } catch (error) {
        ctx.startChild(holds, undefined, { name: 'cut' });
        await ctx.step('seen', () => undefined);
        throw error;
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [parent, flaky, holds], warmRuns: 0 });
    const handle = await perdure.client.start(parent, { taskQueue, workflowId: taskQueue });
    expect(await handle.result({ timeout: '20s' })).toBe(2);
    const children = await childrenOf(handle.runId);
    expect(children.map(({ workflowId }) => workflowId).sort()).toEqual([
      `${taskQueue}/cut`,
      `${taskQueue}/flaky`,
      `${taskQueue}/flaky/2`,
    ]);
    await until('the cut child to end', async () => {
      const cut = children.find(({ workflowId }) => workflowId.endsWith('/cut'));
      return (await statusOf(cut?.runId ?? '')) === 'CANCELLED';
    });
  });

  it('may be functions of another fleet: an activity has the retries and the context of a step', async () => {
    const [taskQueue, fleet] = [newQueue(), newQueue()];
    const tries: number[] = [];
    const resize = activity(
      'resize',
      async (image: { width: number }, step) => {
        step.heartbeat(step.countedAttempt);
        tries.push(step.countedAttempt);
        if (tries.length < 3) throw new Error('busy');
        return image.width / 2;
      },
      { retry: { maxAttempts: 3, backoff: 'fixed', initial: 1 }, timeout: '1 minute' },
    );
    const parent = workflow('calls', async (ctx) => ctx.call(resize, { width: 8 }, { taskQueue: fleet }));
    await perdure.startWorker({ taskQueue, workflows: [parent] });
    await perdure.startWorker({ taskQueue: fleet, workflows: [resize] });
    expect(await perdure.client.execute(parent, { taskQueue, timeout: '20s' })).toBe(4);
    expect(tries).toEqual([1, 2, 3]);
  });

  it.each([
    ['children', 2_000, undefined],
    ['children, few at a time', 300, 50],
  ])('fan out: %s keep the order of the items, and share wake-ups', async (_, count, concurrency) => {
    const taskQueue = newQueue();
    const parent = workflow('maps', async (ctx, n: number) =>
      ctx.map(
        Array.from({ length: n }, (__, index) => index),
        (index) => ctx.child(double, index),
        concurrency === undefined ? {} : { concurrency },
      ),
    );
    await perdure.startWorker({ taskQueue, workflows: [parent, double], warmRuns: 10 });
    const handle = await perdure.client.start(parent, count, { taskQueue });
    expect(await handle.result({ timeout: '100s' })).toEqual(Array.from({ length: count }, (__, index) => index * 2));
    expect(await claims(handle.runId)).toBeLessThan(100);
  });

  it('a map over steps runs as many as it may, and stops at the first failure', async () => {
    const taskQueue = newQueue();
    let now = 0;
    let most = 0;
    const parent = workflow('maps steps', async (ctx, bad: number) =>
      ctx.map(
        Array.from({ length: 20 }, (_, index) => index),
        (index) =>
          ctx.step(`s${index}`, async () => {
            most = Math.max(most, ++now);
            await new Promise((resolve) => setImmediate(resolve));
            now--;
            if (index === bad) throw new TerminalError(`not ${index}`);
            return index;
          }),
        { concurrency: 3 },
      ),
    );
    await perdure.startWorker({ taskQueue, workflows: [parent] });
    expect(await perdure.client.execute(parent, 99, { taskQueue, timeout: '20s' })).toHaveLength(20);
    expect(most).toBe(3);
    const handle = await perdure.client.start(parent, 5, { taskQueue });
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow('not 5');
    const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
    expect(steps.length).toBeLessThan(12);
  });

  it('are told of by a reaper when the server that recorded their end did not do it', async () => {
    const taskQueue = newQueue();
    const parent = workflow('left', async (ctx) => ctx.child(holds).catch((error: Error) => error.name));
    await perdure.startWorker({ taskQueue, workflows: [parent, holds] });
    const handle = await perdure.client.start(parent, { taskQueue });
    await isWaiting(handle.runId);
    const [child] = await childrenOf(handle.runId);
    await isWaiting(child?.runId ?? '');
    await perdure.database
      .sql`insert into perdure.child_ends values (${child?.runId ?? ''}, now() - interval '1 minute')`;
    await perdure.database.sql`
      update perdure.workflow_runs set status = 'TERMINATED', finished_at = now() - interval '1 minute' where run_id = ${child?.runId ?? ''}`;
    expect(await handle.result({ timeout: '20s' })).toBe('ChildTerminatedError');
  });

  it('options that cannot be used are refused with a suggestion', async () => {
    const taskQueue = newQueue();
    const parent = workflow('mistakes', async (ctx) => {
      const errors: string[] = [];
      for (const options of [{ parentClos: 'cancel' }, { parentClose: 'kill' }, { priority: 101 }, { name: 'a#2' }]) {
        await ctx.child(holds, undefined, options as never).catch((error: Error) => errors.push(error.message));
      }
      return errors;
    });
    await perdure.startWorker({ taskQueue, workflows: [parent] });
    const errors = await perdure.client.execute(parent, { taskQueue, timeout: '20s' });
    expect(errors).toEqual([
      expect.stringContaining("did you mean 'parentClose'"),
      expect.stringContaining('parentClose cannot be'),
      expect.stringContaining('priority must be a whole number from -100 to 100'),
      expect.stringContaining("A step's name must not end with"),
    ]);
  });
});
