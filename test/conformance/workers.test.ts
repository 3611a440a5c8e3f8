import { WorkerStatus } from '@perdure/proto';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';
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

  it('refuses another queue, another namespace and types that were not registered', async () => {
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

  it('deregistration clears the worker and refuses its polls', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    const waiting = worker.poll(20_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await perdure.workers.deregisterWorker({ workerId: worker.workerId });
    expect(await waiting).toBeUndefined();
    expect(await statusOf(worker.workerId)).toBe(WorkerStatus.OFFLINE);
    expect((await refusal(worker.poll())).reason).toBe('WORKER_NOT_REGISTERED');
    expect((await refusal(perdure.workers.recordHeartbeat({ workerId: worker.workerId }))).reason).toBe(
      'WORKER_NOT_REGISTERED',
    );
  });

  it('a draining worker finishes what it runs and takes nothing new', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    const waiting = worker.poll(20_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
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

  it('missed heartbeats turn a worker OFFLINE, and heartbeats keep one ONLINE', async () => {
    const taskQueue = newQueue();
    const silent = await registerRawWorker(perdure, taskQueue, ['w'], 1_000);
    const alive = await registerRawWorker(perdure, taskQueue, ['w'], 1_000);
    await until('the silent worker to be OFFLINE', async () => {
      await perdure.workers.recordHeartbeat({ workerId: alive.workerId });
      return (await statusOf(silent.workerId)) === WorkerStatus.OFFLINE;
    });
    expect(await statusOf(alive.workerId)).toBe(WorkerStatus.ONLINE);
    await perdure.workers.recordHeartbeat({ workerId: silent.workerId });
    expect(await statusOf(silent.workerId)).toBe(WorkerStatus.ONLINE);
  });

  it('queues show what is in them', async () => {
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
});
