import { RetryBudgetError, workflow } from '@perdure/worker-sdk';
import {
  type CrashOptions,
  type CrashRun,
  createTestEnvironment,
  type TestEnvironment,
} from '@perdure/worker-sdk/testing';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { add, everythingWorkflow, go, opened } from './everything-workflow.js';
import { abandonedWorkflow, Gates, late, troubleWorkflows } from './trouble-workflows.js';
import { World } from './world.js';

vi.setConfig({ testTimeout: 900_000 });

const EVERY_POINT = process.env.PERDURE_CRASH_EVERY_POINT === '1';

/** Every n-th crash point, so that the suite keeps its time; PERDURE_CRASH_EVERY_POINT=1: all of them. */
const every = (n: number): Pick<CrashOptions, 'only'> => {
  let place = 0;
  return EVERY_POINT ? {} : { only: () => place++ % n === 0 };
};

const WAYS = [
  ['replays after each suspension', { warmRuns: 0 }],
  ['keeps suspended runs in memory', { warmRuns: 100 }],
] as const;

describe('crashEverywhere', () => {
  let env: TestEnvironment;
  beforeAll(async () => {
    env = await createTestEnvironment();
  });
  let points = 0;
  afterAll(async () => {
    console.log(`${points} crash points of all workflows`);
    await env.close();
  });
  const report = ({ points: count, notReached }: { points: number; notReached: readonly string[] }) => {
    points += count;
    console.log(`${count} crash points, not reached: ${notReached.join('; ') || 'none'}`);
  };

  it.each(WAYS)(
    'finds the same result and each effect once for a workflow with every feature, on a worker that %s',
    async (_, worker) => {
      const world = new World();
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
      const crashes = await env.crashEverywhere(everything, undefined, {
        workflows: [double],
        worker,
        drive,
        probe: ({ handle }) => world.of(handle.runId),
        ...every(worker.warmRuns === 0 ? 5 : 8),
      });
      expect(crashes.repeatedBodies).toBeGreaterThan(0);
      report(crashes);
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

  it.each(WAYS)(
    'finds the same failure, and each effect and compensation once, for a workflow that gets into trouble, on a worker that %s',
    async (_, worker) => {
      const world = new World();
      const gates = new Gates();
      const { trouble, subcontract } = troubleWorkflows(world, gates);
      const drive = async ({ handle, client, until, untilWaiting }: CrashRun) => {
        const { namespace, workflowId } = await handle.get();
        await until(() => gates.hasArrived(namespace));
        await handle.pause({ reason: 'a look' });
        await handle.signal(late, 'kept', { requestId: 'late' });
        gates.open(namespace);
        await until(async () => (await handle.get()).status === 'PAUSED');
        await handle.resume();
        await untilWaiting('approval');
        await client.skipStep({ workflowId }, 'approval');
      };
      const crashes = await env.crashEverywhere(trouble, false, {
        workflows: [subcontract],
        worker,
        drive,
        probe: async ({ handle }) => world.of((await handle.get()).namespace),
        ...every(worker.warmRuns === 0 ? 8 : 12),
      });
      expect(crashes.repeatedBodies).toBeGreaterThan(0);
      report(crashes);
    },
  );

  it('finds the same cancel, clean-up and compensations for a run that is cancelled with its child', async () => {
    const world = new World();
    const { abandoned, patient, call } = abandonedWorkflow(world);
    const crashes = await env.crashEverywhere(abandoned, undefined, {
      workflows: [patient, call],
      worker: { warmRuns: 0 },
      drive: async ({ handle, untilWaiting }) => {
        await untilWaiting('patient');
        await untilWaiting('long');
        await handle.cancel();
      },
      probe: async ({ handle }) => world.of((await handle.get()).namespace),
      ...every(5),
    });
    report(crashes);
  });
});
