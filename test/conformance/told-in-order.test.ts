import { type StepAttempt, StepStatus } from '@perdure/proto';
import { LeaseLostError, type Worker, type WorkflowContext, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countCalls } from '../support/counted-calls.js';
import { gate } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

const once = { retry: { maxAttempts: 1 } } as const;
const HOUR_MS = 3_600_000;

describe('what the code of a run sees', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, reclaimBackoffMs: 0, maxReclaimBackoffMs: 0 } });
  });
  afterAll(() => perdure.stop());

  const newQueue = () => `q-${uuid()}`;
  const historyOf = async (runId: string) => (await perdure.workflows.getHistory({ runId })).steps;
  const lines = (steps: readonly StepAttempt[]) =>
    steps.map((step) => `${step.stepId}/${step.attemptNumber} ${StepStatus[step.status]}${step.isCut ? ' cut' : ''}`);
  /** As if the worker that holds the run had died. */
  const loseLease = (runId: string) =>
    perdure.database.sql`update perdure.workflow_runs set lease_expires_at = perdure.clock() - interval '1 s'
      where run_id = ${runId} and status = 'RUNNING'`;

  it('a step that was lost with its worker and is executed at most once fails at the same place in every replay', async () => {
    const taskQueue = newQueue();
    const seen: string[][] = [];
    const isReserved = gate();
    const definition = workflow('lost', async (ctx) => {
      const mine: string[] = [];
      seen.push(mine);
      const lost = ctx
        .step('reserve', () => isReserved.opened, { begin: 'durable', ...once })
        .catch((error: Error) => mine.push(error.name));
      const other = (async () => {
        mine.push(await ctx.step('b1', () => 'b1'));
        mine.push(await ctx.step('b2', () => 'b2'));
        await ctx.sleep('nap', HOUR_MS);
      })();
      await Promise.all([lost, other]);
    });
    const first = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const { runId } = await perdure.client.start(definition, { taskQueue });
    await until('both of the other steps to be recorded', async () => (await historyOf(runId)).length >= 3);
    await first.shutdown(0);
    const second = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    await until('the loss to be told', () => seen.at(-1)?.includes('WorkerLostError'));
    await second.shutdown(0);
    await perdure.database
      .sql`update perdure.step_runs set fires_at = perdure.clock() where run_id = ${runId} and kind = 'SLEEP'`;
    await perdure.database
      .sql`update perdure.workflow_runs set wake_at = perdure.clock() where run_id = ${runId} and wake_at is not null`;
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    await perdure.client.handle(runId).result({ timeout: '20s' });
    expect(seen.at(-1)).toEqual(seen.at(-2));
    isReserved.open();
  });

  it('a race that a cancel has decided stays decided when another worker continues the clean-up', async () => {
    const taskQueue = newQueue();
    const workEnds = gate();
    const cleanedUp: string[] = [];
    let worker: Worker | undefined;
    const definition = workflow('cancelled', async (ctx) => {
      try {
        await Promise.race([ctx.sleep('nap', HOUR_MS), ctx.step('work', () => workEnds.opened)]);
        return 'work done';
      } catch (error) {
        await ctx.uncancellable(async () => {
          await ctx.step('refund', () => cleanedUp.push('refund'));
          workEnds.open();
          await ctx.step('move', async () => {
            if (cleanedUp.includes('moved')) return;
            cleanedUp.push('moved');
            await until('the work to be recorded', async () =>
              (await historyOf(ctx.run.runId)).some(
                ({ stepId, status }) => stepId === 'work' && status !== StepStatus.RUNNING,
              ),
            );
            void worker?.shutdown(0);
            await new Promise(() => undefined);
          });
          await ctx.step('notify', () => cleanedUp.push('notify'));
        });
        throw error;
      }
    });
    worker = await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('the work to have begun', async () => (await historyOf(handle.runId)).length === 2);
    await handle.cancel();
    await until('the worker to have gone', () => cleanedUp.includes('moved') && worker?.running === 0);
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ name: 'WorkflowCancelledError' });
    expect(cleanedUp).toEqual(['refund', 'moved', 'notify']);
  });

  it('clean-up that waits suspends the cancelled run, without further calls', async () => {
    const own = await startPerdure({ reaper: { maxSleepMs: 50 } });
    const taskQueue = newQueue();
    const counted = countCalls(own.connection);
    const definition = workflow('waiting clean-up', async (ctx) => {
      try {
        await ctx.sleep('nap', HOUR_MS);
      } finally {
        await ctx.uncancellable(() => ctx.sleep('grace', HOUR_MS));
      }
    });
    await own.startWorker({ taskQueue, workflows: [definition], connection: counted.connection });
    const handle = await own.client.start(definition, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    await handle.cancel();
    await until('its clean-up to be waited for', async () => {
      const { steps } = await own.workflows.getHistory({ runId: handle.runId });
      return (await handle.get()).status === 'SLEEPING' && steps.some(({ stepId }) => stepId === 'grace');
    });
    expect(counted.calls.get('suspendRun')).toBe(2);
    await own.database.advanceClock(2 * HOUR_MS);
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ name: 'WorkflowCancelledError' });
    const { steps } = await own.workflows.getHistory({ runId: handle.runId });
    expect(lines(steps)).toEqual(['nap/1 CANCELLED', 'grace/1 COMPLETED']);
    await own.stop();
  });

  it('a run with more timers than a suspension names is suspended with one call, and ends when they have fired', async () => {
    const own = await startPerdure({ reaper: { maxSleepMs: 50 } });
    const taskQueue = newQueue();
    const counted = countCalls(own.connection);
    // So many unary calls at once are more than one connection carries.
    const count = process.env.PERDURE_TEST_UNARY === '1' ? 1_100 : 10_500;
    const definition = workflow('many timers', async (ctx) => {
      await Promise.all(Array.from({ length: count }, () => ctx.sleep(HOUR_MS)));
    });
    await own.startWorker({ taskQueue, workflows: [definition], connection: counted.connection });
    const handle = await own.client.start(definition, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING', 60_000);
    expect(counted.calls.get('suspendRun')).toBe(1);
    expect(counted.calls.get('releaseRun') ?? 0).toBe(0);
    await own.database.advanceClock(2 * HOUR_MS);
    await handle.result({ timeout: '100s' });
    await own.stop();
  }, 200_000);

  it('a step in the place of a recorded one is NON_DETERMINISM', async () => {
    const taskQueue = newQueue();
    let name = 'charge';
    const charged: string[] = [];
    const definition = workflow('renamed', async (ctx) => {
      await ctx.step(name, () => charged.push(name));
      await ctx.sleep('nap', HOUR_MS);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0, onNonDeterminism: 'fail' });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    name = 'charge card';
    await perdure.database
      .sql`update perdure.step_runs set fires_at = perdure.clock() where run_id = ${handle.runId} and kind = 'SLEEP'`;
    await perdure.database
      .sql`update perdure.workflow_runs set wake_at = perdure.clock() where run_id = ${handle.runId}`;
    await expect(handle.result({ timeout: '20s' })).rejects.toThrow(
      /Position 1 was recorded as step 'charge' \(FUNCTION\), but the code now requests FUNCTION 'charge card' there/,
    );
    expect(charged).toEqual(['charge']);
  });

  it('bodies of a run that its worker gives back learn that it is continued elsewhere, not that it was cancelled', async () => {
    const taskQueue = newQueue();
    const reasons: unknown[] = [];
    const hasBegun = gate();
    const definition = workflow('moved', async (ctx) => {
      await ctx.step('work', async (step) => {
        if (reasons.length > 0) return;
        step.signal.addEventListener('abort', () => reasons.push(step.signal.reason));
        hasBegun.open();
        await new Promise(() => undefined);
      });
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await hasBegun.opened;
    await worker.shutdown(0);
    expect(reasons).toEqual([expect.any(LeaseLostError)]);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    await handle.result({ timeout: '20s' });
  });

  it('a retry of the run takes back the steps after the failure, and may take another way', async () => {
    const taskQueue = newQueue();
    let fails = true;
    const definition = workflow('retried', { retry: { maxAttempts: 3, initial: 1 } }, async (ctx) => {
      try {
        await ctx.step(
          'charge',
          () => {
            if (fails) throw new Error('declined');
          },
          once,
        );
        await ctx.step('ship', () => 'shipped');
        return await ctx.step('log', () => 'all is well');
      } catch (error) {
        fails = false;
        await ctx.step('log', () => 'failed');
        throw error;
      } finally {
        await ctx.step('audit', () => undefined);
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    expect(await handle.result({ timeout: '20s' })).toBe('all is well');
    expect(lines(await historyOf(handle.runId)).sort()).toEqual([
      'audit/1 COMPLETED cut',
      'audit/2 COMPLETED',
      'charge/1 FAILED',
      'charge/2 COMPLETED',
      'log/1 COMPLETED cut',
      'log/2 COMPLETED',
      'ship/1 COMPLETED',
    ]);
  });

  it('a retry of the run executes all steps again that failed together, even when the error does not name them', async () => {
    const taskQueue = newQueue();
    let isDown = true;
    const executed = new Map<string, number>();
    const four = async (ctx: WorkflowContext) => {
      const results = await Promise.allSettled(
        ['a', 'b', 'c', 'd'].map((name) =>
          ctx.step(
            name,
            () => {
              executed.set(name, (executed.get(name) ?? 0) + 1);
              if (isDown) throw new Error('outage');
            },
            once,
          ),
        ),
      );
      isDown = false;
      if (results.some(({ status }) => status === 'rejected')) throw new Error('Something failed.');
    };
    const definition = workflow('four', { retry: { maxAttempts: 2, initial: 1 } }, four);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    await perdure.client.execute(definition, { taskQueue, timeout: '20s' });
    expect([...executed.values()]).toEqual([2, 2, 2, 2]);
  });

  it('a body that is executed at most once is not executed again by a retry of the run that has taken it back', async () => {
    const taskQueue = newQueue();
    let fails = true;
    let paid = 0;
    const definition = workflow('paid', { retry: { maxAttempts: 2, initial: 1 } }, async (ctx) => {
      try {
        await ctx.step(
          'reserve',
          () => {
            if (fails) throw new Error('full');
          },
          once,
        );
      } finally {
        fails = false;
        await ctx.step('fee', () => `fee ${++paid}`, { begin: 'durable', ...once });
      }
      return ctx.step('end', () => 'done');
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await perdure.client.execute(definition, { taskQueue, timeout: '20s' })).toBe('done');
    expect(paid).toBe(1);
  });

  it('once a run has lost a worker, the beginning of a body is recorded before the body is executed', async () => {
    const taskQueue = newQueue();
    const begun: string[][] = [];
    const definition = workflow('suspect', async (ctx) => {
      await ctx.step('work', async (step) => {
        begun.push(lines(await historyOf(ctx.run.runId)));
        if (step.attemptNumber > 1) return;
        await loseLease(ctx.run.runId);
        await until('the lease to be reclaimed', async () =>
          (await historyOf(ctx.run.runId)).some(({ status }) => status === StepStatus.FAILED),
        );
      });
    });
    for (let n = 0; n < 2; n++) await perdure.startWorker({ taskQueue, workflows: [definition] });
    await perdure.client.execute(definition, { taskQueue, timeout: '20s' });
    expect(begun.at(-1)).toEqual(['work/1 FAILED', 'work/2 RUNNING']);
  });

  it('an invalid duration in a promise that is awaited later fails the run, not the worker', async () => {
    const taskQueue = newQueue();
    const definition = workflow('invalid', async (ctx) => {
      const timeout = ctx.sleep('timeout', Number.NaN);
      await ctx.step('work', () => undefined);
      await timeout;
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition] });
    await expect(perdure.client.execute(definition, { taskQueue, timeout: '20s' })).rejects.toThrow(
      /duration of ctx.sleep/,
    );
    await until('the worker to be free again', () => worker.running === 0);
  });

  it('errors that no retry can mend fail at once: times too far ahead, names that are not text, nested steps', async () => {
    const taskQueue = newQueue();
    let nested = 0;
    const definition = workflow('wrong', async (ctx) => {
      const messageOf = (call: Promise<unknown>) => call.then(String, (error: Error) => error.message);
      return [
        await messageOf(ctx.sleepUntil(new Date('9999-01-01'))),
        await messageOf(ctx.step('half \ud83d', () => 1)),
        await messageOf(
          ctx.step('outer', () => {
            nested++;
            return ctx.step('inner', () => 1);
          }),
        ),
      ];
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await perdure.client.execute(definition, { taskQueue, timeout: '20s' })).toEqual([
      expect.stringContaining('at most 10 years ahead'),
      expect.stringContaining('name must be'),
      expect.stringContaining('cannot be nested'),
    ]);
    expect(nested).toBe(1);
  });

  it('a call on ctx after the end of the function rejects, and ctx.run cannot be changed', async () => {
    const taskQueue = newQueue();
    let leaked: WorkflowContext | undefined;
    const definition = workflow('leaky', async (ctx) => {
      leaked = ctx;
      expect(() => Object.assign(ctx.run, { runId: 'another' })).toThrow(TypeError);
      return ctx.run.runId;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    expect(await handle.result({ timeout: '20s' })).toBe(handle.runId);
    await expect(leaked?.step('late', () => 1)).rejects.toThrow(/had ended/);
    await expect(leaked?.sleep(1)).rejects.toThrow(/had ended/);
  });
});
