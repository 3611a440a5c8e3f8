import { WorkerStatus } from '@perdure/proto';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf, pollsWait, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

describe('workers', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, minWorkerSilenceMs: 500 } });
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;

  const statusOf = async (workerId: string) => (await perdure.admin.getWorker({ workerId })).worker?.status;

  it('registration gives an id and shows the worker ONLINE', async () => {
    const taskQueue = newQueue();
    const { workerId } = await registerRawWorker(perdure, taskQueue);
    const { workers } = await perdure.admin.listWorkers({ taskQueue });
    expect(workers).toHaveLength(1);
    expect(workers[0]).toMatchObject({ workerId, status: WorkerStatus.ONLINE, workflowTypes: ['w'] });
  });

  it('two workers get two ids, and one that registers again keeps its row', async () => {
    const taskQueue = newQueue();
    const first = await registerRawWorker(perdure, taskQueue);
    const second = await registerRawWorker(perdure, taskQueue);
    expect(first.workerId).not.toBe(second.workerId);
    await perdure.workers.registerWorker({ workerId: first.workerId, taskQueue, workflowTypes: ['x'], slots: 1 });
    const { workers } = await perdure.admin.listWorkers({ taskQueue });
    expect(workers).toHaveLength(2);
    expect(workers.find(({ workerId }) => workerId === first.workerId)?.workflowTypes).toEqual(['x']);
  });

  it('polling needs a registration', async () => {
    const error = await refusal(perdure.workers.pollActivity({ workerId: uuid(), taskQueue: 'q' }));
    expect(error).toMatchObject({ status: 'FAILED_PRECONDITION', reason: 'WORKER_NOT_REGISTERED' });
  });

  it('a poll for another queue, another namespace or unregistered types is refused', async () => {
    const taskQueue = newQueue();
    const { workerId } = await registerRawWorker(perdure, taskQueue);
    expect((await refusal(perdure.workers.pollActivity({ workerId, taskQueue: newQueue() }))).reason).toBe(
      'WORKER_MISMATCH',
    );
    const types = perdure.workers.pollActivity({ workerId, taskQueue, workflowTypes: ['w', 'z'] });
    const mismatch = await refusal(types);
    expect(mismatch.reason).toBe('WORKER_MISMATCH');
    expect(mismatch.message).toContain("'z'");
    const elsewhere = perdure.workers.pollActivity({ namespace: 'elsewhere', workerId, taskQueue });
    expect((await refusal(elsewhere)).reason).toBe('WORKER_NOT_REGISTERED');
  });

  it('each worker gets only its types', async () => {
    const taskQueue = newQueue();
    const a = await registerRawWorker(perdure, taskQueue, ['a']);
    const b = await registerRawWorker(perdure, taskQueue, ['b']);
    await perdure.workflows.startWorkflow(startRequest({ taskQueue, workflowType: 'b' }));
    expect(await a.poll(100)).toBeUndefined();
    expect((await b.claim()).workflowType).toBe('b');
  });

  it('a deregistered worker is OFFLINE and its polls are refused', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    const waiting = worker.poll(20_000);
    await worker.waiting();
    await perdure.workers.deregisterWorker({ workerId: worker.workerId });
    expect(await waiting).toBeUndefined();
    expect(await statusOf(worker.workerId)).toBe(WorkerStatus.OFFLINE);
    expect((await refusal(worker.poll())).reason).toBe('WORKER_NOT_REGISTERED');
    expect((await refusal(perdure.workers.recordHeartbeat({ workerId: worker.workerId }))).reason).toBe(
      'WORKER_NOT_REGISTERED',
    );
  });

  it('a draining worker keeps its runs and gets no new ones', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    const waiting = worker.poll(20_000);
    await worker.waiting();
    const { status } = await perdure.workers.drainWorker({ workerId: worker.workerId });
    expect(status).toBe(WorkerStatus.DRAINING);
    expect(await waiting).toBeUndefined();
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    expect((await refusal(worker.poll())).reason).toBe('WORKER_DRAINING');
    const beat = await perdure.workers.recordHeartbeat({ workerId: worker.workerId, leases: [fenceOf(run)] });
    expect(beat.drain).toBe(true);
    expect(beat.leases[0]?.renewed).toBe(true);
    await perdure.workers.completeWorkflow(fenceOf(run));
  });

  it('a worker without heartbeats becomes OFFLINE, and heartbeats keep a worker ONLINE', async () => {
    const taskQueue = newQueue();
    const silent = await registerRawWorker(perdure, taskQueue, ['w'], 60_000);
    const alive = await registerRawWorker(perdure, taskQueue, ['w'], 60_000);
    await perdure.database.advanceClock(40_000);
    await perdure.workers.recordHeartbeat({ workerId: alive.workerId });
    await perdure.database.advanceClock(40_000);
    await until(
      'the silent worker to be OFFLINE',
      async () => (await statusOf(silent.workerId)) === WorkerStatus.OFFLINE,
    );
    expect(await statusOf(alive.workerId)).toBe(WorkerStatus.ONLINE);
    await perdure.workers.recordHeartbeat({ workerId: silent.workerId });
    expect(await statusOf(silent.workerId)).toBe(WorkerStatus.ONLINE);
  });

  it('a request to drain stays in force while the worker is silent, even when it arrives during the silence', async () => {
    const taskQueue = newQueue();
    const drained = await registerRawWorker(perdure, taskQueue, ['w'], 1_000);
    const silent = await registerRawWorker(perdure, taskQueue, ['w'], 1_000);
    const offline = async ({ workerId }: { readonly workerId: string }) =>
      (await statusOf(workerId)) === WorkerStatus.OFFLINE;
    expect((await perdure.workers.drainWorker({ workerId: drained.workerId })).status).toBe(WorkerStatus.DRAINING);
    await until('both workers to be OFFLINE', async () => (await offline(drained)) && (await offline(silent)));
    expect((await perdure.workers.drainWorker({ workerId: silent.workerId })).status).toBe(WorkerStatus.OFFLINE);
    for (const worker of [drained, silent]) {
      expect((await perdure.workers.recordHeartbeat({ workerId: worker.workerId })).drain).toBe(true);
      await perdure.workers.registerWorker({ workerId: worker.workerId, taskQueue, workflowTypes: ['w'], slots: 1 });
      expect((await refusal(worker.poll(100))).reason).toBe('WORKER_DRAINING');
      // A new term of service begins with the end of the old one.
      await perdure.workers.deregisterWorker({ workerId: worker.workerId });
      await perdure.workers.registerWorker({ workerId: worker.workerId, taskQueue, workflowTypes: ['w'], slots: 1 });
      expect(await statusOf(worker.workerId)).toBe(WorkerStatus.ONLINE);
    }
  });

  it('a list of queues shows their runs and workers', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    await perdure.workflows.startWorkflows({
      runs: [startRequest({ taskQueue: worker.taskQueue }), startRequest({ taskQueue: worker.taskQueue })],
    });
    const run = await worker.claim();
    const { taskQueues } = await perdure.admin.listTaskQueues({});
    const queue = taskQueues.find(({ name }) => name === worker.taskQueue);
    expect(queue).toMatchObject({ pending: 1n, running: 1n, workersOnline: 1, slots: 10 });
    expect((await perdure.admin.getWorker({ workerId: worker.workerId })).worker?.running).toBe(1);
    await perdure.workers.releaseRun(fenceOf(run));
  });

  describe('notices', () => {
    const wait = { seconds: 20n };
    const listening = (workers: number) =>
      until(`${workers} workers to listen`, async () => {
        return (await perdure.admin.getServerInfo({})).listeningWorkers === workers;
      });

    it('notices report a cancel, a termination and a drain at once', async () => {
      const worker = await registerRawWorker(perdure, newQueue());
      const { taskQueue, workerId } = worker;
      const hold = async () => {
        await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
        return worker.claim();
      };
      const [first, second] = [await hold(), await hold()];
      const cancel = perdure.workers.awaitNotices({ workerId, wait });
      await listening(1);
      await perdure.workflows.cancelRun({ runId: first.runId });
      expect(await cancel).toMatchObject({
        cancelRequested: [{ runId: first.runId, leaseToken: first.leaseToken }],
        lost: [],
        drain: false,
      });
      // Between two calls they are kept.
      await perdure.workflows.terminateRun({ runId: second.runId });
      expect(await perdure.workers.awaitNotices({ workerId, wait })).toMatchObject({
        cancelRequested: [],
        lost: [{ runId: second.runId, leaseToken: second.leaseToken }],
      });
      const drain = perdure.workers.awaitNotices({ workerId, wait });
      await perdure.workers.drainWorker({ workerId });
      expect((await drain).drain).toBe(true);
    });

    it('notices reach the worker that holds the run, and no worker of another namespace', async () => {
      const namespace = `n-${uuid()}`.slice(0, 40);
      await perdure.admin.createNamespace({ name: namespace });
      const holder = await registerRawWorker(perdure, newQueue());
      const other = await registerRawWorker(perdure, holder.taskQueue);
      const { taskQueue } = holder;
      const elsewhere = await perdure.workers.registerWorker({ namespace, taskQueue, workflowTypes: ['w'], slots: 1 });
      const told = perdure.workers.awaitNotices({ workerId: holder.workerId, wait });
      const gone = new AbortController();
      const untold = [
        perdure.workers.awaitNotices({ workerId: other.workerId, wait }, { signal: gone.signal }),
        perdure.workers.awaitNotices({ namespace, workerId: elsewhere.workerId, wait }, { signal: gone.signal }),
      ].map((call) => refusal(call));
      await listening(3);
      const stranger = perdure.workers.awaitNotices({ namespace, workerId: holder.workerId, wait });
      expect((await refusal(stranger)).reason).toBe('WORKER_NOT_REGISTERED');
      const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
      await holder.claim();
      await perdure.workflows.cancelRun({ runId });
      expect((await told).cancelRequested).toMatchObject([{ runId }]);
      // The others wait still.
      await listening(2);
      gone.abort();
      for (const error of await Promise.all(untold)) expect(error.status).toBe('CANCELLED');
    });

    it('a second AwaitNotices ends the first', async () => {
      const { workerId } = await registerRawWorker(perdure, newQueue());
      const first = perdure.workers.awaitNotices({ workerId, wait });
      const second = perdure.workers.awaitNotices({ workerId, wait: { nanos: 300_000_000 } });
      expect(await first).toMatchObject({ cancelRequested: [], lost: [], drain: false });
      await second;
    });
  });

  describe('polls for many runs', () => {
    const wait = { seconds: 20n };
    const start = (taskQueue: string, count: number) =>
      perdure.workflows.startWorkflows({ runs: Array.from({ length: count }, () => startRequest({ taskQueue })) });

    it('a poll for many runs returns the claimable runs, at most as many as requested', async () => {
      const taskQueue = newQueue();
      const { workerId } = await registerRawWorker(perdure, taskQueue);
      await start(taskQueue, 7);
      const first = await perdure.workers.pollActivity({ workerId, taskQueue, wait, maxRuns: 5 });
      const second = await perdure.workers.pollActivity({ workerId, taskQueue, wait, maxRuns: 5 });
      expect([first.runs.length, second.runs.length]).toEqual([5, 2]);
      expect(new Set([...first.runs, ...second.runs].map(({ runId }) => runId)).size).toBe(7);
    });

    it('waiting polls get runs that are leased as they start', async () => {
      const taskQueue = newQueue();
      const { workerId } = await registerRawWorker(perdure, taskQueue);
      const waiting = perdure.workers.pollActivity({ workerId, taskQueue, wait, maxRuns: 10 });
      await pollsWait(perdure, taskQueue);
      await start(taskQueue, 4);
      const { runs } = await waiting;
      expect(runs).toHaveLength(4);
      for (const run of runs) {
        expect(run).toMatchObject({ leaseToken: 1, attempt: 1, memo: [], leaseDuration: { seconds: 30n } });
        const found = await perdure.workflows.getRun({ runId: run.runId });
        expect(found.run).toMatchObject({ leaseToken: 1, leasedBy: workerId });
        expect(run.startedAt).toEqual(run.now);
      }
    });

    it('waiting polls of several workers share the runs that start', async () => {
      const taskQueue = newQueue();
      const workers = await Promise.all([1, 2, 3].map(() => registerRawWorker(perdure, taskQueue)));
      const polls = workers.map(({ workerId }) =>
        perdure.workers.pollActivity({ workerId, taskQueue, wait, maxRuns: 100 }),
      );
      await pollsWait(perdure, taskQueue, 3);
      await start(taskQueue, 30);
      const counts = (await Promise.all(polls)).map(({ runs }) => runs.length);
      expect(counts).toEqual([10, 10, 10]);
    });

    it('polls of a draining worker get no runs, even when they were waiting before', async () => {
      const taskQueue = newQueue();
      const { workerId } = await registerRawWorker(perdure, taskQueue);
      const waiting = perdure.workers.pollActivity({ workerId, taskQueue, wait, maxRuns: 10 });
      await pollsWait(perdure, taskQueue);
      // Behind the server's back, as another server would.
      await perdure.database
        .sql`update perdure.workers set status = 'DRAINING', drain_requested_at = perdure.clock() where worker_id = ${workerId}`;
      const { outcomes } = await start(taskQueue, 1);
      const runId = outcomes[0]?.result.case === 'started' ? outcomes[0].result.value.runId : '';
      expect((await refusal(waiting)).reason).toBe('WORKER_DRAINING');
      expect((await perdure.workflows.getRun({ runId })).run).toMatchObject({ leaseToken: 0, leasedBy: '' });
    });

    it('a poll answers with fewer runs when inputs are large', async () => {
      const taskQueue = newQueue();
      const { workerId } = await registerRawWorker(perdure, taskQueue);
      const input = { data: new Uint8Array(1_500_000), encoding: 'bytes' };
      for (let n = 0; n < 6; n++) await perdure.workflows.startWorkflow(startRequest({ taskQueue, input }));
      const runIds = new Set<string>();
      while (runIds.size < 6) {
        const { runs } = await perdure.workers.pollActivity({ workerId, taskQueue, wait, maxRuns: 50 });
        expect(runs.length).toBeLessThan(4);
        for (const run of runs) {
          expect(run.input?.data.byteLength).toBe(1_500_000);
          runIds.add(run.runId);
        }
      }
    });
  });
});
