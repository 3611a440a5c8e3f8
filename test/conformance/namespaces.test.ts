import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { begin, failure, fenceOf, finalStep, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';

describe('namespaces', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
    await perdure.admin.createNamespace({ name: 'other', description: 'for tests' });
  });
  afterAll(() => perdure.stop());

  it('a namespace can be created once and is listed', async () => {
    const { namespaces } = await perdure.admin.listNamespaces({});
    expect(namespaces.map(({ name }) => name)).toEqual(['default', 'other']);
    const again = await refusal(perdure.admin.createNamespace({ name: 'other' }));
    expect(again).toMatchObject({ status: 'ALREADY_EXISTS', reason: 'NAMESPACE_ALREADY_EXISTS' });
  });

  it('starts and registrations in a namespace that does not exist are NOT_FOUND', async () => {
    const start = perdure.workflows.startWorkflow(startRequest({ namespace: 'nowhere' }));
    expect((await refusal(start)).reason).toBe('NAMESPACE_NOT_FOUND');
    const register = perdure.workers.registerWorker({
      namespace: 'nowhere',
      taskQueue: 'q',
      workflowTypes: ['w'],
      slots: 1,
    });
    expect((await refusal(register)).reason).toBe('NAMESPACE_NOT_FOUND');
    const { outcomes } = await perdure.workflows.startWorkflows({ namespace: 'nowhere', runs: [startRequest()] });
    expect(outcomes[0]?.result.case).toBe('error');
  });

  it('no RPC sees or changes anything of another namespace', async () => {
    const taskQueue = `q-${uuid()}`;
    const worker = await registerRawWorker(perdure, taskQueue);
    const workflowId = uuid();
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue, workflowId }));
    const run = await worker.claim();
    await perdure.workers.beginStep(begin(run, 's'));
    await perdure.workers.scheduleSleep({
      ...fenceOf(run),
      stepId: 'nap',
      seq: 2,
      when: { case: 'duration', value: { seconds: 60n } },
    });
    const before = await perdure.workflows.describeRun({ runId });
    const namespace = 'other';
    const lease = { namespace, ...fenceOf(run) };

    const notFound = [
      perdure.workflows.getRun({ namespace, runId }),
      perdure.workflows.getRun({ namespace, workflowId }),
      perdure.workflows.describeRun({ namespace, runId }),
      perdure.workflows.awaitRun({ namespace, runId }),
      perdure.workflows.getRunTree({ namespace, runId }),
      perdure.workflows.getHistory({ namespace, runId }),
      perdure.workflows.listStepAttempts({ namespace, runId, stepId: 's' }),
      perdure.workflows.getStepAttempt({ namespace, runId, stepId: 's' }),
      perdure.workflows.cancelRun({ namespace, runId }),
      perdure.workflows.terminateRun({ namespace, runId }),
      perdure.workflows.pauseRun({ namespace, runId }),
      perdure.workflows.pauseRun({ namespace, workflowId }),
      perdure.workflows.resumeRun({ namespace, runId }),
      perdure.workflows.signalRun({ namespace, runId, name: 'n' }),
      perdure.workflows.updateRun({ namespace, runId, name: 'n' }),
      perdure.workflows.updateRun({ namespace, workflowId, name: 'n' }),
      perdure.workflows.getRunState({ namespace, runId }),
      perdure.workflows.deleteRun({ namespace, runId }),
      perdure.workflows.retryRun({ namespace, runId }),
      perdure.workflows.restartRun({ namespace, runId }),
      perdure.workflows.forkRun({ namespace, runId, stepId: 's' }),
      perdure.workflows.forkRun({ namespace, workflowId, stepId: 's' }),
      perdure.workflows.dismissRun({ namespace, runId }),
      perdure.workflows.endStep({ namespace, runId, stepId: 's', outcome: { case: 'skipped', value: true } }),
      perdure.workflows.endStep({ namespace, workflowId, stepId: 's', outcome: { case: 'skipped', value: true } }),
      perdure.workflows.watchRun({ namespace, runId })[Symbol.asyncIterator]().next(),
      perdure.workers.getMemo(lease),
      perdure.workers.beginStep({ ...begin(run, 'x', { seq: 3 }), namespace }),
      perdure.workers.completeStep({ ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1 }),
      perdure.workers.failStep({ ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1, failure: failure() }),
      perdure.workers.settleStep({ ...lease, stepId: 's', seq: 1, kind: 1, attemptNumber: 1, status: 3, eventSeq: 1 }),
      perdure.workers.beginCompensation(lease),
      perdure.workers.observeCancel({ ...lease, eventSeq: 1 }),
      perdure.workers.answerUpdate({ ...lease, stepId: 's', answer: { case: 'completed', value: {} } }),
      perdure.workers.setRunState({ ...lease, seq: 1 }),
      perdure.workers.scheduleSleep({ ...lease, stepId: 'y', seq: 4, when: { case: 'duration', value: {} } }),
      perdure.workers.startChildren({
        ...lease,
        children: [{ stepId: 'c', seq: 5, attemptNumber: 1, eventSeq: 1, workflowType: 'w' }],
      }),
      perdure.workers.suspendRun({ ...lease, waits: [{ stepId: 'nap', kind: { case: 'timer', value: {} } }] }),
      perdure.workers.completeWorkflow(lease),
      perdure.workers.completeWorkflow({ ...lease, finalStep: finalStep('last', 6) }),
      perdure.workers.failWorkflow({ ...lease, failure: failure() }),
      perdure.workers.failWorkflow({ ...lease, failure: failure(), retryAfter: {} }),
      perdure.workers.confirmCancel(lease),
      perdure.workers.continueWorkflow(lease),
      perdure.workers.releaseRun(lease),
      perdure.workers.holdRun({ ...lease, failure: failure() }),
      perdure.admin.pauseTaskQueue({ namespace: 'nowhere', taskQueue }),
      perdure.admin.resumeTaskQueue({ namespace: 'nowhere', taskQueue }),
      perdure.admin.pauseWorkflowType({ namespace: 'nowhere', workflowType: 'w' }),
      perdure.admin.resumeWorkflowType({ namespace: 'nowhere', workflowType: 'w' }),
      perdure.admin.listPauses({ namespace: 'nowhere' }),
      perdure.workers.drainWorker({ namespace, workerId: worker.workerId }),
      perdure.workers.deregisterWorker({ namespace, workerId: worker.workerId }),
      perdure.admin.getWorker({ namespace, workerId: worker.workerId }),
    ];
    const refusals = await Promise.all(notFound.map(refusal));
    expect(refusals.map(({ status }) => status)).toEqual(refusals.map(() => 'NOT_FOUND'));

    expect(
      (await refusal(perdure.workers.pollActivity({ namespace, workerId: worker.workerId, taskQueue }))).reason,
    ).toBe('WORKER_NOT_REGISTERED');
    const hijack = perdure.workers.registerWorker({
      namespace,
      workerId: worker.workerId,
      taskQueue,
      workflowTypes: ['w'],
      slots: 1,
    });
    expect((await refusal(hijack)).reason).toBe('WORKER_NOT_FOUND');
    const beat = await perdure.workers.recordHeartbeat({
      namespace,
      workerId: worker.workerId,
      leases: [fenceOf(run)],
    });
    expect(beat.leases[0]?.renewed).toBe(false);
    expect((await perdure.workflows.listRuns({ namespace })).runs).toEqual([]);
    expect((await perdure.workflows.countRuns({ namespace })).total).toBe(0n);
    expect((await perdure.admin.listWorkers({ namespace })).workers).toEqual([]);
    expect((await perdure.admin.listTaskQueues({ namespace })).taskQueues).toEqual([]);

    const after = await perdure.workflows.describeRun({ runId });
    expect(after.run).toEqual(before.run);
    expect(after.currentSteps).toEqual(before.currentSteps);
  });

  it('two namespaces may use the same workflow id, request id and queue', async () => {
    const taskQueue = `q-${uuid()}`;
    const request = { taskQueue, workflowId: uuid(), requestId: uuid() };
    const here = await perdure.workflows.startWorkflow(startRequest(request));
    const there = await perdure.workflows.startWorkflow(startRequest({ ...request, namespace: 'other' }));
    expect(there).toMatchObject({ created: true });
    expect(there.runId).not.toBe(here.runId);
    const worker = await registerRawWorker(perdure, taskQueue);
    expect((await worker.claim()).runId).toBe(here.runId);
    expect(await worker.poll(50)).toBeUndefined();
  });
});
