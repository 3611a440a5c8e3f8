import { workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { failure, fenceOf, refusal, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

describe('diagnosis', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: false });
  });
  afterAll(() => perdure.stop());

  /** A worker of a namespace, and a function that claims a run for it. */
  const register = async (namespace: string, taskQueue: string) => {
    const { workerId } = await perdure.workers.registerWorker({
      namespace,
      taskQueue,
      workflowTypes: ['w'],
      slots: 10,
    });
    const claim = async () => {
      const { runs } = await perdure.workers.pollActivity({ namespace, workerId, taskQueue, wait: { seconds: 10n } });
      if (runs[0] === undefined) throw new Error(`No run came from task queue '${taskQueue}'.`);
      return runs[0];
    };
    return { workerId, claim };
  };

  it('a reaper is listed while it runs, and not after it has stopped', async () => {
    expect((await perdure.admin.getServerInfo({})).reapers).toEqual([]);
    const reaper = perdure.startReaper();
    const [info] = await until('the reaper to announce itself', async () => {
      const { reapers } = await perdure.admin.getServerInfo({});
      return reapers.length === 1 && reapers;
    });
    expect(info?.identity).toMatch(/:\d+$/);
    await reaper.stop();
    expect((await perdure.admin.getServerInfo({})).reapers).toEqual([]);
  });

  it('a reaper counts as dead once it has been silent for 10 s', async () => {
    await perdure.database.sql`insert into perdure.reapers values
      (${uuid()}, 'dead:1', perdure.clock() - interval '1 h', perdure.clock() - interval '11 s'),
      (${uuid()}, 'live:1', perdure.clock() - interval '1 h', perdure.clock() - interval '9 s')`;
    const { reapers } = await perdure.admin.getServerInfo({});
    expect(reapers.map(({ identity }) => identity)).toEqual(['live:1']);
    await perdure.database.sql`delete from perdure.reapers`;
  });

  it('overdue sleeping runs and expired leases are counted, and stay without a reaper', async () => {
    await perdure.admin.createNamespace({ name: 'late' });
    const namespace = 'late';
    expect(await perdure.admin.diagnose({ namespace })).toMatchObject({ overdueSleepers: 0n, expiredLeases: 0n });
    const taskQueue = `q-${uuid()}`;
    const delayed = await perdure.workflows.startWorkflow(
      startRequest({ namespace, taskQueue, startDelay: { seconds: 60n } }),
    );
    const worker = await register(namespace, taskQueue);
    await perdure.workflows.startWorkflow(startRequest({ namespace, taskQueue }));
    const claimed = await worker.claim();
    await perdure.database.advanceClock(120_000);
    const found = await perdure.admin.diagnose({ namespace });
    expect(found).toMatchObject({ overdueSleepers: 1n, expiredLeases: 1n });
    expect(Number(found.longestOverdue?.seconds)).toBeGreaterThanOrEqual(59);
    const { explanation, reapersAlive } = await perdure.workflows.describeRun({ namespace, runId: delayed.runId });
    expect([reapersAlive, explanation]).toEqual([0, expect.stringContaining('No reaper is running to wake it.')]);
    const lost = await perdure.workflows.describeRun({ namespace, runId: claimed.runId });
    expect(lost.explanation).toContain('No reaper is running to reclaim the run.');
    expect(lost.worker?.workerId).toBe(worker.workerId);
    // Other namespaces are not concerned.
    expect(await perdure.admin.diagnose({})).toMatchObject({ overdueSleepers: 0n, expiredLeases: 0n });
  });

  it('a diagnosis names queues without workers and types that no worker online has', async () => {
    await perdure.admin.createNamespace({ name: 'idle' });
    const namespace = 'idle';
    const taskQueue = 'served';
    await register(namespace, taskQueue);
    await perdure.workflows.startWorkflow(startRequest({ namespace, taskQueue, workflowType: 'typo' }));
    await perdure.workflows.startWorkflow(startRequest({ namespace, taskQueue: 'nobody', workflowType: 'a' }));
    await perdure.workflows.startWorkflow(startRequest({ namespace, taskQueue: 'nobody', workflowType: 'a' }));
    const { withoutWorker } = await perdure.admin.diagnose({ namespace });
    expect(
      withoutWorker.map((group) => [group.taskQueue, group.workflowType, group.runs, group.workersOnline]),
    ).toEqual([
      ['nobody', 'a', 2n, 0],
      ['served', 'typo', 1n, 1],
    ]);
  });

  it('a diagnosis counts the runs that failed within the requested time, by type, and names the newest', async () => {
    await perdure.admin.createNamespace({ name: 'failing' });
    const namespace = 'failing';
    const taskQueue = `q-${uuid()}`;
    const worker = await register(namespace, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ namespace, taskQueue }));
    const run = await worker.claim();
    await perdure.workers.failWorkflow({
      namespace,
      ...fenceOf(run),
      failure: failure(),
    });
    const { failed } = await perdure.admin.diagnose({ namespace });
    expect(failed.map((group) => [group.runs, group.newestRunId])).toEqual([[1n, runId]]);
    await perdure.database.advanceClock(7_200_000);
    expect((await perdure.admin.diagnose({ namespace })).failed).toEqual([]);
    expect((await perdure.admin.diagnose({ namespace, recent: { seconds: 86_400n } })).failed).toHaveLength(1);
  });

  it('every list of a namespace that does not exist is NOT_FOUND, and of an empty one is empty', async () => {
    const namespace = 'nowhere';
    const calls: Promise<unknown>[] = [
      perdure.admin.diagnose({ namespace }),
      perdure.admin.listWorkers({ namespace }),
      perdure.admin.listTaskQueues({ namespace }),
      perdure.workflows.listRuns({ namespace }),
      perdure.workflows.countRuns({ namespace }),
    ];
    const refusals = await Promise.all(calls.map(refusal));
    expect(refusals.map(({ status, reason }) => `${status} ${reason}`)).toEqual(
      calls.map(() => 'NOT_FOUND NAMESPACE_NOT_FOUND'),
    );
    await perdure.admin.createNamespace({ name: 'empty' });
    expect((await perdure.workflows.listRuns({ namespace: 'empty' })).runs).toEqual([]);
    expect((await perdure.workflows.countRuns({ namespace: 'empty' })).total).toBe(0n);
  });

  it('a failed run is explained by the step whose error ended it', async () => {
    const broken = workflow('broken', async (ctx) => {
      await ctx.step(
        'charge',
        () => {
          throw Object.assign(new Error('limit'), { name: 'CardDeclined', code: 'card_declined' });
        },
        { retry: { stopOn: ['CardDeclined'] } },
      );
    });
    const taskQueue = `q-${uuid()}`;
    await perdure.startWorker({ taskQueue, workflows: [broken] });
    const { runId } = await perdure.workflows.startWorkflow({ workflowType: 'broken', taskQueue });
    await perdure.workflows.awaitRun({ runId });
    expect((await perdure.workflows.describeRun({ runId })).explanation).toBe(
      "Step 'charge' failed with CardDeclined [card_declined]: limit. It was attempt 1 of 3; not retried, because of stopOn or retryOn in its retry policy.",
    );
  });
});
