import {
  activity,
  ChainTimeoutError,
  ChildFailedError,
  ExecutionTimeoutError,
  errorFacts,
  HeartbeatTimeoutError,
  RetryBudgetError,
  RunTimeoutError,
  StartTimeoutError,
  StepTimeoutError,
  TimeoutError,
  type WorkflowContext,
  WorkflowFailedError,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

const once = { maxAttempts: 1 } as const;
const soon = { initial: 5, jitter: 0 } as const;

describe('timeouts', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 100 } });
  });
  afterAll(() => perdure.stop());

  const napping = workflow('napping', async (ctx) => {
    await ctx.sleep('1h');
  });
  const chaining = workflow('chaining', async (ctx, round: number): Promise<void> => {
    await ctx.sleep(20);
    return ctx.continueAsNew(round + 1);
  });
  const silent = activity('silent', () => new Promise(() => undefined), { heartbeatTimeout: 50, retry: once });
  const slow = activity('slow', () => new Promise(() => undefined), { timeout: 50, retry: once });

  const CHILDREN: [string, typeof TimeoutError, (ctx: WorkflowContext) => Promise<unknown>][] = [
    [
      'StartTimeoutError',
      StartTimeoutError,
      (ctx) => ctx.call(slow, undefined, { taskQueue: 'nobody', startTimeout: 50 }),
    ],
    ['RunTimeoutError', RunTimeoutError, (ctx) => ctx.child(napping, undefined, { runTimeout: 200 })],
    ['ExecutionTimeoutError', ExecutionTimeoutError, (ctx) => ctx.child(napping, undefined, { executionTimeout: 200 })],
    ['ChainTimeoutError', ChainTimeoutError, (ctx) => ctx.child(chaining, 1, { chainTimeout: 400 })],
    ['HeartbeatTimeoutError', HeartbeatTimeoutError, (ctx) => ctx.call(silent)],
    ['StepTimeoutError', StepTimeoutError, (ctx) => ctx.call(slow)],
  ];

  it.each(CHILDREN)(
    'a child that ends with %s tells its parent so, in the first execution and in a replay',
    async (name, type, call) => {
      const taskQueue = `q-${uuid()}`;
      const seen: unknown[] = [];
      const parent = workflow(`parent-${uuid()}`, async (ctx) => {
        try {
          await call(ctx);
        } catch (error) {
          seen.push(error);
          // The worker keeps nothing warm, so what follows the signal is a replay.
          await ctx.waitForSignal('again');
          throw error;
        }
      });
      await perdure.startWorker({ taskQueue, workflows: [parent, napping, chaining, silent, slow], warmRuns: 0 });
      const handle = await perdure.client.start(parent, { taskQueue });
      await until(
        'the parent to have seen it, and to be suspended',
        async () => seen.length === 1 && (await handle.get()).status === 'WAITING',
      );
      await handle.signal('again');
      const error = await handle.result({ timeout: '20s' }).catch((failure: unknown) => failure as WorkflowFailedError);
      expect(error).toBeInstanceOf(WorkflowFailedError);
      expect(seen).toHaveLength(2);
      for (const caught of [...seen, (error as WorkflowFailedError).cause]) {
        expect(caught).toBeInstanceOf(ChildFailedError);
        const { cause } = caught as Error;
        expect(cause).toBeInstanceOf(type);
        expect(cause).toBeInstanceOf(TimeoutError);
        expect((cause as Error).name).toBe(name);
        expect((caught as ChildFailedError).category).toBe('timeout');
        expect(errorFacts(cause)).toMatchObject({ category: 'timeout', origin: (caught as ChildFailedError).origin });
        if (name !== 'ChainTimeoutError')
          expect((caught as ChildFailedError).origin?.runId).toBe((caught as ChildFailedError).runId);
      }
    },
  );

  it('the timeouts of an activity are those of its calls, unless a call has others', async () => {
    const taskQueue = `q-${uuid()}`;
    const nobody = { taskQueue: `q-${uuid()}` };
    const unclaimed = activity('unclaimed', () => 'done', { startTimeout: 50, runTimeout: '1h' });
    const caller = workflow('caller', async (ctx) => {
      const reason = (error: unknown) => ((error as Error).cause as Error).name;
      return Promise.all([
        ctx.call(unclaimed, undefined, { ...nobody, name: 'own' }).catch(reason),
        ctx.call(unclaimed, undefined, { ...nobody, name: 'other', startTimeout: '1h', runTimeout: 80 }).catch(reason),
        ctx.call(unclaimed),
      ]);
    });
    await perdure.startWorker({ taskQueue, workflows: [caller, unclaimed] });
    expect(await perdure.client.execute(caller, { taskQueue, timeout: '20s' })).toEqual([
      'StartTimeoutError',
      'RunTimeoutError',
      'done',
    ]);
    expect(() => activity('a', () => 1, { startTimeout: 'soon' as never })).toThrow(
      /startTimeout of activity 'a' must be/,
    );
  });

  it('a retry policy knows timeouts by their common class', async () => {
    const taskQueue = `q-${uuid()}`;
    let attempts = 0;
    const stubborn = workflow('stubborn', async (ctx) => {
      await ctx.step(
        'hang',
        () => {
          attempts++;
          return new Promise(() => undefined);
        },
        { timeout: 20, retry: { ...soon, maxAttempts: 5, stopOn: [TimeoutError] } },
      );
    });
    await perdure.startWorker({ taskQueue, workflows: [stubborn] });
    await expect(perdure.client.execute(stubborn, { taskQueue, timeout: '20s' })).rejects.toMatchObject({
      cause: expect.any(StepTimeoutError),
    });
    expect(attempts).toBe(1);
  });
});

describe('retries that the steps of a run share', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  it.each([0, 100])('are used up by all steps together, on any worker (warm runs: %s)', async (warmRuns) => {
    const taskQueue = `q-${uuid()}`;
    const attempts = { flaky: 0, broken: 0 };
    const budgeted = workflow('budgeted', { maxRetriesInAll: 3, retry: { maxAttempts: 5, ...soon } }, async (ctx) => {
      await ctx.step(
        'flaky',
        () => {
          if (++attempts.flaky < 3) throw new Error('not yet');
        },
        { retry: { ...soon, maxAttempts: 10 } },
      );
      await ctx.sleep(5);
      await ctx.step(
        'broken',
        () => {
          attempts.broken++;
          throw new TypeError('for good');
        },
        { retry: { ...soon, maxAttempts: 10 } },
      );
    });
    await perdure.startWorker({ taskQueue, workflows: [budgeted], warmRuns });
    const handle = await perdure.client.start(budgeted, { taskQueue });
    const error = await handle.result({ timeout: '20s' }).catch((failure: unknown) => failure as WorkflowFailedError);
    // Two retries for the first step, one for the second; and no retry of the run.
    expect(attempts).toEqual({ flaky: 3, broken: 2 });
    expect(error).toMatchObject({
      stepId: 'broken',
      cause: { name: 'RetryBudgetError', cause: { name: 'TypeError' } },
    });
    const { cause } = error as WorkflowFailedError;
    expect(cause).toBeInstanceOf(RetryBudgetError);
    expect(cause.message).toContain("Step 'broken' failed and is not retried");
    expect(cause.message).toContain('3 in all (maxRetriesInAll): for good');
  });

  it('compensations are retried without any left', async () => {
    const taskQueue = `q-${uuid()}`;
    let undone = 0;
    const saga = workflow('saga', { maxRetriesInAll: 0 }, async (ctx) => {
      await ctx.step('do', () => undefined);
      ctx.onCompensate(
        'undo',
        () => {
          if (++undone < 3) throw new Error('not yet');
        },
        { retry: { ...soon, maxAttempts: 5 } },
      );
      await ctx.step('fail', () => Promise.reject(new Error('no')), { retry: { ...soon, maxAttempts: 5 } });
    });
    await perdure.startWorker({ taskQueue, workflows: [saga] });
    const error = await perdure.client
      .execute(saga, { taskQueue, timeout: '20s' })
      .catch((failure: unknown) => failure);
    expect(error).toMatchObject({
      cause: { name: 'RetryBudgetError' },
      compensation: { status: 'COMPLETE', compensated: ['compensate:undo'] },
    });
    expect(undone).toBe(3);
  });

  it('a lost worker uses none', async () => {
    const taskQueue = `q-${uuid()}`;
    let executions = 0;
    const lost = workflow('lost', { maxRetriesInAll: 0 }, async (ctx) =>
      ctx.step('body', async (step) => {
        executions++;
        if (executions === 1) await new Promise((_, reject) => step.signal.addEventListener('abort', reject));
        return step.attemptNumber;
      }),
    );
    const first = await perdure.startWorker({ taskQueue, workflows: [lost] });
    const handle = await perdure.client.start(lost, { taskQueue });
    await until('the body to be executed', () => executions === 1);
    const done = first.shutdown(0);
    await perdure.startWorker({ taskQueue, workflows: [lost] });
    expect(await handle.result({ timeout: '20s' })).toBe(2);
    await done;
  });

  it.each([-1, 1.5, 1_000_001, '3'])('maxRetriesInAll refuses %s', (budget) => {
    expect(() => workflow('w', { maxRetriesInAll: budget as number }, async () => undefined)).toThrow(
      /maxRetriesInAll of workflow 'w' must be a whole number from 0 to 1,000,000/,
    );
  });
});
