import { AdminService, WorkerService, WorkerStatus } from '@perdure/proto';
import { Connection, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate } from '../support/held-answers.js';
import { settled } from '../support/manual-clock.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { pollsWait, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

describe('concurrency', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;

  /** Counts the bodies that are executed at once; the first ones wait for each other until `together` of them are. */
  const countingWorkflow = (name: string, together: number) => {
    const count = { now: 0, most: 0, total: 0 };
    const reached = gate();
    const definition = workflow(name, async (ctx) => {
      await ctx.step('work', async () => {
        count.now++;
        count.total++;
        count.most = Math.max(count.most, count.now);
        if (count.now >= together) reached.open();
        await reached.opened;
        await settled();
        count.now--;
      });
    });
    return { definition, count };
  };

  const runMany = async (
    taskQueue: string,
    definition: ReturnType<typeof countingWorkflow>['definition'],
    n: number,
  ) => {
    const handles = await perdure.client.startMany(
      definition,
      Array.from({ length: n }, () => ({ input: undefined, options: { taskQueue } })),
    );
    await Promise.all(
      handles.map((handle) => ('result' in handle ? handle.result({ timeout: '25s' }) : Promise.reject(handle))),
    );
  };

  it("the worker's limit holds under a burst", async () => {
    const taskQueue = newQueue();
    const { definition, count } = countingWorkflow('limited', 5);
    await perdure.startWorker({ taskQueue, workflows: [definition], concurrency: 5 });
    await runMany(taskQueue, definition, 60);
    expect(count.most).toBe(5);
    expect(count.total).toBe(60);
  });

  it('limits per type hold under a burst, and other types continue', async () => {
    const taskQueue = newQueue();
    const rare = countingWorkflow('rare', 2);
    const common = countingWorkflow('common', 3);
    await perdure.startWorker({
      taskQueue,
      workflows: [rare.definition, common.definition],
      concurrency: 20,
      limits: { rare: 2 },
    });
    await Promise.all([runMany(taskQueue, rare.definition, 20), runMany(taskQueue, common.definition, 60)]);
    expect(rare.count.most).toBe(2);
    expect(common.count.most).toBeGreaterThan(2);
    expect(rare.count.total + common.count.total).toBe(80);
  });

  it('workers share a queue without duplicates', async () => {
    const taskQueue = newQueue();
    const { definition, count } = countingWorkflow('shared', 1);
    for (let n = 0; n < 4; n++) await perdure.startWorker({ taskQueue, workflows: [definition], concurrency: 10 });
    await runMany(taskQueue, definition, 200);
    expect(count.total).toBe(200);
    const { runs } = await perdure.workflows.listRuns({ taskQueue, pageSize: 1_000 });
    expect(runs.every(({ leaseToken, attempt }) => leaseToken === 1 && attempt === 1)).toBe(true);
  });

  for (const n of [20, 200, 2_000]) {
    it(`${n} runs complete without drops`, async () => {
      const taskQueue = newQueue();
      const definition = workflow('quick', async (ctx) => ctx.step('s', () => 1));
      await perdure.startWorker({ taskQueue, workflows: [definition] });
      const starts = Array.from({ length: n }, () => ({ input: undefined, options: { taskQueue } }));
      const handles = await perdure.client.startMany(definition, starts);
      await Promise.all(
        handles.map((handle) => ('result' in handle ? handle.result({ timeout: '55s' }) : Promise.reject(handle))),
      );
      const { counts, total } = await perdure.workflows.countRuns({ taskQueue });
      expect(total).toBe(BigInt(n));
      expect(counts).toHaveLength(1);
    }, 60_000);
  }

  it('a start reaches an idle worker without waiting for a poll interval', async () => {
    // The polls end before the fallback look comes: without a wake-up they would bring nothing.
    const quiet = await startPerdure({ server: { pollFallbackMs: 60_000 } });
    const worker = await registerRawWorker(quiet, 'q');
    for (let n = 0; n < 5; n++) {
      const polled = worker.poll(20_000);
      await worker.waiting();
      const { runId } = await quiet.workflows.startWorkflow(startRequest());
      const run = await polled;
      expect(run?.runId).toBe(runId);
      await quiet.workers.completeWorkflow({ runId, leaseToken: run?.leaseToken ?? 0 });
    }
    await quiet.stop();
  });

  it('a start and a cancel at one server reach a worker that is at another', async () => {
    const other = await perdure.startServer({ pollFallbackMs: 60_000 });
    const taskQueue = newQueue();
    const connection = new Connection({ address: other.grpcAddress });
    const workers = connection.service(WorkerService);
    const admin = connection.service(AdminService);
    const { workerId } = await workers.registerWorker({ taskQueue, workflowTypes: ['w'], slots: 1 });
    // Servers learn of each other when they announce themselves, every 2 s.
    await until('the first server to know the second', async () => {
      const [row] = await perdure.database.sql<{ known: boolean }[]>`
        select bool_and(a.last_seen_at > b.alive_since) as known from perdure.servers a, perdure.servers b
        where a.server_id = ${perdure.server.serverId} and b.server_id = ${other.serverId}`;
      return row?.known;
    });
    for (let n = 0; n < 5; n++) {
      const waiting = workers.pollActivity({ workerId, taskQueue, wait: { seconds: 20n } });
      await pollsWait({ admin }, taskQueue);
      const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
      const [run] = (await waiting).runs;
      expect(run?.runId).toBe(runId);
      const noticed = workers.awaitNotices({ workerId, wait: { seconds: 20n } });
      await until('the worker to listen', async () => (await admin.getServerInfo({})).listeningWorkers === 1);
      await perdure.workflows.cancelRun({ runId });
      expect((await noticed).cancelRequested).toMatchObject([{ runId }]);
      const awaiting = perdure.workflows.awaitRun({ runId, wait: { seconds: 20n } });
      await workers.completeWorkflow({ runId, leaseToken: run?.leaseToken ?? 0 });
      expect((await awaiting).ended).toBe(true);
    }
    connection.close();
    await other.stop();
  });

  it('everything works without notifications, but slower', async () => {
    const polling = await startPerdure({
      server: { wakeup: 'poll', pollFallbackMs: 50 },
      reaper: { wakeup: 'poll', maxSleepMs: 50 },
    });
    const definition = workflow('polled', async (ctx) => {
      await ctx.sleep(300);
      return ctx.step('s', () => 'done');
    });
    await polling.startWorker({ taskQueue: 'q', workflows: [definition] });
    expect(await polling.client.execute(definition, undefined, { taskQueue: 'q', timeout: '20s' })).toBe('done');
    await polling.stop();
  });

  it('everything works without prepared statements', async () => {
    const plain = await startPerdure({ server: { preparedStatements: false }, reaper: { preparedStatements: false } });
    const definition = workflow('plain', async (ctx) => ctx.step('s', () => [1, 'two']));
    await plain.startWorker({ taskQueue: 'q', workflows: [definition] });
    expect(await plain.client.execute(definition, undefined, { taskQueue: 'q', timeout: '20s' })).toEqual([1, 'two']);
    await plain.stop();
  });

  it('a draining worker continues its runs and takes no new ones', async () => {
    const taskQueue = newQueue();
    let release: () => void = () => undefined;
    const definition = workflow('drained', async (ctx) => {
      await ctx.step(
        'hold',
        () =>
          new Promise<void>((resolve) => {
            release = resolve;
          }),
      );
      return ctx.step('after', () => 'finished');
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition], shutdownGrace: '20s' });
    const first = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to begin', () => worker.running === 1);
    const stopping = worker.shutdown();
    await until('the drain to be known', async () => {
      const { worker: shown } = await perdure.admin.getWorker({ workerId: worker.workerId });
      return shown?.status === WorkerStatus.DRAINING;
    });
    const second = await perdure.client.start(definition, undefined, { taskQueue });
    release();
    expect(await first.result({ timeout: '10s' })).toBe('finished');
    await stopping;
    expect((await second.get()).status).toBe('PENDING');
  });

  it('a worker that is drained from outside shuts down', async () => {
    const taskQueue = newQueue();
    const definition = workflow('w', async () => 1);
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition], leaseDuration: '1s' });
    await perdure.workers.drainWorker({ workerId: worker.workerId });
    await worker.run();
  });

  it('a worker whose grace has passed gives its runs back at once', async () => {
    const taskQueue = newQueue();
    const definition = workflow('w', async (ctx) => {
      await ctx.step('hold', () => new Promise(() => undefined));
    });
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to begin', () => worker.running === 1);
    await worker.shutdown(0);
    const { run } = await perdure.workflows.getRun({ runId: handle.runId });
    expect(run).toMatchObject({ status: 1, attempt: 1 });
  });
});
