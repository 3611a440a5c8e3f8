import { RunStatus } from '@perdure/proto';
import { type WorkflowContext, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate } from '../support/held-answers.js';
import { settled } from '../support/manual-clock.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf } from '../support/raw-worker.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('replay', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
  });
  afterAll(() => perdure.stop());

  /** Gives the run back after its n-th step of the kind, as if the worker had lost it, then lets it go on. */
  const interruptedAt = async (code: (ctx: WorkflowContext) => Promise<unknown>, at: (executed: number) => boolean) => {
    const taskQueue = `q-${uuid()}`;
    let executed = 0;
    const interrupting = (ctx: WorkflowContext): WorkflowContext => {
      const step = ctx.step.bind(ctx);
      return Object.assign(Object.create(ctx) as WorkflowContext, {
        step: (
          name: string,
          body: Parameters<WorkflowContext['step']>[1],
          options?: Parameters<WorkflowContext['step']>[2],
        ) =>
          step(
            name,
            async (context) => {
              const value = await body(context);
              if (at(++executed)) await giveBack(ctx.run.runId);
              return value;
            },
            options,
          ),
      });
    };
    const giveBack = async (runId: string) => {
      const { run } = await perdure.workflows.getRun({ runId });
      if (run !== undefined) await perdure.workers.releaseRun(fenceOf(run));
    };
    const definition = workflow('interrupted', async (ctx) => code(interrupting(ctx)));
    await perdure.startWorker({ taskQueue, workflows: [definition], leaseDuration: '10s' });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    return { output: await handle.result({ timeout: '20s' }), runId: handle.runId, executions: () => executed };
  };

  const fiveSteps = async (ctx: WorkflowContext) => {
    const values: number[] = [];
    for (let n = 1; n <= 5; n++) values.push(await ctx.step('s', () => n * n));
    return { values, uuid: ctx.uuid(), random: ctx.random() };
  };

  for (let point = 1; point <= 5; point++) {
    it(`a run that loses its worker in step ${point} of 5 ends with the same result`, async () => {
      const { output, runId, executions } = await interruptedAt(fiveSteps, (executed) => executed === point);
      expect((output as { values: number[] }).values).toEqual([1, 4, 9, 16, 25]);
      expect(executions()).toBe(6);
      const { steps } = await perdure.workflows.getHistory({ runId });
      expect(steps).toHaveLength(6);
      expect(steps.filter(({ isLatest }) => isLatest)).toHaveLength(5);
    });
  }

  it('parallel branches see results in the same order in every replay', async () => {
    const orders: string[][] = [];
    const { output } = await interruptedAt(
      async (ctx) => {
        const order: string[] = [];
        orders.push(order);
        const branch = async (name: string, turns: number) => {
          for (let n = 0; n < 3; n++) {
            await ctx.step(`${name}${n}`, () => settled(turns));
            order.push(`${name}${n}`);
          }
        };
        await Promise.all([branch('a', 15), branch('b', 4), branch('c', 9)]);
        await ctx.step('last', () => undefined);
        return order;
      },
      (executed) => executed === 10,
    );
    expect(orders.length).toBeGreaterThanOrEqual(2);
    expect(output).toEqual(orders[0]);
    expect(orders.at(-1)).toEqual(orders[0]);
  });

  it('the outcome of a race is the same in every replay', async () => {
    const winners: string[] = [];
    let letSlowEnd: () => void = () => undefined;
    const raceIsWon = new Promise<void>((resolve) => {
      letSlowEnd = resolve;
    });
    const slowHasEnded = gate();
    const { output } = await interruptedAt(
      async (ctx) => {
        const winner = await Promise.race([
          ctx.step('slow', async () => {
            await raceIsWon;
            slowHasEnded.open();
            return 'slow';
          }),
          ctx.step('quick', () => 'quick'),
        ]);
        winners.push(winner);
        letSlowEnd();
        // The third in any case: 'slow' may begin only now.
        await ctx.step('wait for both', async () => {
          await slowHasEnded.opened;
          await settled();
        });
        return winner;
      },
      (executed) => executed === 3,
    );
    expect(output).toBe('quick');
    expect(new Set(winners)).toEqual(new Set(['quick']));
    expect(winners.length).toBeGreaterThanOrEqual(2);
  });

  it('now, random and uuid are the same in every replay', async () => {
    const seen: unknown[] = [];
    await interruptedAt(
      async (ctx) => {
        const values = [ctx.now().getTime(), ctx.random(), ctx.uuid()];
        await ctx.step('a', () => settled());
        values.push(ctx.now().getTime(), ctx.random(), ctx.uuid());
        seen.push(values);
        await ctx.step('b', () => undefined);
      },
      (executed) => executed === 2,
    );
    expect(seen.length).toBe(2);
    expect(seen[1]).toEqual(seen[0]);
  });

  it("with onNonDeterminism 'fail', code that asks for another kind or order fails the run as NON_DETERMINISM, past any catch", async () => {
    let version = 1;
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('changing', async (ctx) => {
      try {
        if (version === 1) await ctx.step('one', () => 1);
        await ctx.step('two', () => 2);
        await ctx.sleep('nap', '10m');
      } catch {
        return 'swallowed';
      }
      return 'done';
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0, onNonDeterminism: 'fail' });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    version = 2;
    await endSleep(perdure, handle.runId);
    const error = await handle.result({ timeout: '20s' }).catch((thrown: unknown) => thrown as Error);
    expect(String((error as Error).message)).toContain("Step 'two' was recorded as FUNCTION at position 2");
    expect((await handle.get()).error?.name).toBe('NonDeterminismError');
  });

  it('a history of 1,000 steps is replayed', async () => {
    const taskQueue = `q-${uuid()}`;
    let executions = 0;
    const definition = workflow('long', async (ctx) => {
      let sum = 0;
      for (let n = 0; n < 1_000; n++)
        sum += await ctx.step('s', () => {
          executions++;
          return n;
        });
      await ctx.sleep('nap', '10m');
      return sum;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '100s' })).toBe(499_500);
    expect(executions).toBe(1_000);
  }, 180_000);

  it('1,000 parallel branches are executed and replayed', async () => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('wide', async (ctx) => {
      const values = await Promise.all(Array.from({ length: 1_000 }, (_, n) => ctx.step(`b${n}`, () => n)));
      await ctx.sleep('nap', '10m');
      return values.reduce((sum, value) => sum + value, 0);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '100s' })).toBe(499_500);
    const { run } = await perdure.workflows.getRun({ runId: handle.runId });
    expect(run).toMatchObject({ status: RunStatus.COMPLETED, leaseToken: 2 });
  }, 180_000);

  it('after a stall past the lease no further body starts under it', async () => {
    const taskQueue = `q-${uuid()}`;
    let stalls = 1;
    const executedIn: number[] = [];
    const definition = workflow('stalling', async (ctx) => {
      await ctx.step('before', () => undefined);
      // The whole process stands still, and the next step comes before any timer of the worker's.
      if (stalls-- > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_300);
      await ctx.step('after', () => {
        executedIn.push(ctx.run.attempt);
      });
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], leaseDuration: '1s' });
    await perdure.client.execute(definition, undefined, { taskQueue, timeout: '20s' });
    expect(executedIn.length).toBeGreaterThan(0);
    expect(executedIn).not.toContain(1);
  });

  it('after a body that stalled the process past the lease no other starts in the same turn', async () => {
    const taskQueue = `q-${uuid()}`;
    let stalls = 1;
    const executedIn: number[] = [];
    const definition = workflow('stalling-body', async (ctx) => {
      await Promise.all([
        ctx.step('stall', () => {
          if (stalls-- > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_300);
        }),
        ctx.step('beside', () => {
          executedIn.push(ctx.run.attempt);
        }),
      ]);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], leaseDuration: '1s' });
    await perdure.client.execute(definition, undefined, { taskQueue, timeout: '20s' });
    expect(executedIn.length).toBeGreaterThan(0);
    expect(executedIn).not.toContain(1);
  });

  it('at-most-once steps are not executed again when the run failed while they were at work', async () => {
    const taskQueue = `q-${uuid()}`;
    let bodies = 0;
    const atWork = gate();
    const definition = workflow('gives up', { retry: { maxAttempts: 2, initial: 1 } }, async (ctx) => {
      const charge = () =>
        ctx.step(
          'charge',
          () => {
            bodies++;
            atWork.open();
            return new Promise(() => undefined);
          },
          { begin: 'durable', retry: { maxAttempts: 1 } },
        );
      try {
        await ctx.step('reserve', () => Promise.reject(new Error('no stock')), { retry: { maxAttempts: 1 } });
      } catch (error) {
        const charging = charge();
        if (ctx.run.attempt > 1) await charging;
        await atWork.opened;
        throw error;
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    const error = await handle.result({ timeout: '20s' }).catch((thrown: Error) => thrown);
    expect(bodies).toBe(1);
    expect(error).toMatchObject({ cause: { name: 'WorkerLostError' } });
  });

  it('at-most-once steps are not executed again when their worker is lost', async () => {
    let executions = 0;
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('once', async (ctx) => {
      try {
        return await ctx.step(
          'pay',
          async () => {
            executions++;
            const { run } = await perdure.workflows.getRun({ runId: ctx.run.runId });
            if (run !== undefined) await perdure.workers.releaseRun(fenceOf(run));
          },
          { begin: 'durable', retry: { maxAttempts: 1 } },
        );
      } catch (error) {
        return (error as Error).name;
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], leaseDuration: '10s' });
    expect(await perdure.client.execute(definition, undefined, { taskQueue, timeout: '20s' })).toBe('WorkerLostError');
    expect(executions).toBe(1);
  });
});
