import { RetryBudgetError, workflow } from '@perdure/worker-sdk';
import { type CrashRun, createTestEnvironment, type TestEnvironment } from '@perdure/worker-sdk/testing';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { add, everythingWorkflow, go, opened, World } from './everything-workflow.js';

vi.setConfig({ testTimeout: 600_000 });

/** PERDURE_CRASH_EVERY_POINT=1: all of them on the worker that keeps runs, too. */
const EVERY_POINT = process.env.PERDURE_CRASH_EVERY_POINT === '1';

describe('crashEverywhere', () => {
  let env: TestEnvironment;
  beforeAll(async () => {
    env = await createTestEnvironment();
  });
  afterAll(() => env.close());

  it.each([
    ['replays after each suspension', 0],
    ['keeps suspended runs in memory', 100],
  ])(
    'finds the same result and each effect once for a workflow with every feature, on a worker that %s',
    async (_, warmRuns) => {
      const world = new World();
      const isSampled = warmRuns > 0 && !EVERY_POINT;
      let place = 0;
      const { everything, double } = everythingWorkflow(world);
      const drive = async ({ handle, client, until, untilWaiting }: CrashRun) => {
        await untilWaiting('go');
        await client.publish(opened, 'the door', { key: 'door', requestId: 'opened' });
        await handle.signal(go, 7, { requestId: 'go' });
        await untilWaiting('answer');
        const promiseId = await until(() => world.promises.get(handle.runId));
        await client.resolvePromise(promiseId, 'yes');
        await handle.update(add, 4, { requestId: 'add' });
      };
      const report = await env.crashEverywhere(everything, undefined, {
        workflows: [double],
        worker: { warmRuns },
        // Both ways share most of their code: every third point is enough for the second one.
        ...(isSampled ? { only: () => place++ % 3 === 0 } : {}),
        drive,
        probe: ({ handle }) => world.of(handle.runId),
      });
      expect(report.points).toBeGreaterThanOrEqual(isSampled ? 20 : 60);
      expect(report.repeatedBodies).toBeGreaterThan(0);
      console.log(`${report.points} crash points, not reached: ${report.notReached.join('; ') || 'none'}`);
    },
  );

  it('finds the same end of the retries that the steps of a run share, wherever the worker is lost', async () => {
    const retry = { maxAttempts: 10, initial: 1, jitter: 0 } as const;
    const budgeted = workflow('budgeted', { maxRetriesInAll: 3 }, async (ctx) => {
      const flaky = await ctx.step(
        'flaky',
        ({ countedAttempt }) => {
          if (countedAttempt < 3) throw new Error('not yet');
          return countedAttempt;
        },
        { retry },
      );
      await ctx.step('last', () => Promise.reject(new Error(`after ${flaky}`)), { retry });
    });
    await expect(env.run(budgeted)).rejects.toMatchObject({ cause: expect.any(RetryBudgetError) });
    const report = await env.crashEverywhere(budgeted);
    expect(report.points).toBeGreaterThan(6);
  });
});
