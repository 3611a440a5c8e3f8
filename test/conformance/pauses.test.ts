/** Pauses as clients and workers see them; the store's own rules are in test/store/pauses.test.ts. */
import { DispatchKind, RunStatus, StepKind, WaitReason } from '@perdure/proto';
import { aesGcmCodec, Client, Connection, signal, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { begin, failure, fenceOf, pollsWait, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('pauses', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
  });
  afterAll(() => perdure.stop());

  const newQueue = () => `q-${uuid()}`;
  const statusOf = async (runId: string) => (await perdure.client.get({ runId })).status;
  const isPaused = (runId: string) =>
    until('the run to be given back', async () => (await statusOf(runId)) === 'PAUSED');

  /** Bodies start before their beginning is recorded; a pause refuses a beginning that comes after it. */
  const isRecorded = (runId: string, wanted: StepKind) =>
    until('the step to be recorded', async () => {
      const { currentSteps } = await perdure.workflows.describeRun({ runId });
      return currentSteps.some(({ kind }) => kind === wanted);
    });

  it('a run with a body under way: its result is recorded, nothing new begins, and the resume continues after it', async () => {
    const taskQueue = newQueue();
    const hasBegun = gate();
    const mayEnd = gate();
    const executed: string[] = [];
    const definition = workflow('long body', async (ctx) => {
      const long = await ctx.step('long', async () => {
        executed.push('long');
        hasBegun.open();
        await mayEnd.opened;
        return 'long';
      });
      const next = await ctx.step('next', () => {
        executed.push('next');
        return 'next';
      });
      return [long, next];
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await hasBegun.opened;
    await isRecorded(handle.runId, StepKind.FUNCTION);
    await handle.pause({ reason: 'deploy', actor: 'alice' });
    expect(await handle.get()).toMatchObject({ status: 'RUNNING', pause: { pausedBy: 'alice', reason: 'deploy' } });
    const running = await perdure.workflows.describeRun({ runId: handle.runId });
    expect(running.explanation).toMatch(/It was paused .* ago by alice \('deploy'\): no further step begins/);
    mayEnd.open();
    await isPaused(handle.runId);
    expect(executed).toEqual(['long']);
    const { run, waitReason, explanation, attempts } = await perdure.workflows.describeRun({ runId: handle.runId });
    expect(run).toMatchObject({ status: RunStatus.PAUSED, lostLeases: 0, attempt: 1 });
    expect(waitReason).toBe(WaitReason.PAUSED);
    expect(explanation).toMatch(/^It was paused .* ago by alice \('deploy'\)\. What comes for it is kept/);
    expect(attempts).toBe(1);
    await handle.resume({ actor: 'bob' });
    expect(await handle.result({ timeout: '20s' })).toEqual(['long', 'next']);
    expect(executed).toEqual(['long', 'next']);
    const { pauses } = await perdure.workflows.getHistory({ runId: handle.runId });
    expect(pauses).toMatchObject([{ pausedBy: 'alice', reason: 'deploy', resumedBy: 'bob' }]);
  });

  it('parallel branches: one that ends with a failure is retried after the resume, one that waits keeps waiting', async () => {
    const taskQueue = newQueue();
    const hasBegun = gate();
    const mayEnd = gate();
    let tries = 0;
    const go = signal<string>('go');
    const definition = workflow('branches', async (ctx) =>
      Promise.all([
        ctx.step(
          'flaky',
          async () => {
            hasBegun.open();
            await mayEnd.opened;
            if (++tries === 1) throw new Error('once');
            return tries;
          },
          { retry: { initial: '50ms' } },
        ),
        ctx.waitForSignal(go),
      ]),
    );
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await hasBegun.opened;
    await isRecorded(handle.runId, StepKind.FUNCTION);
    await isRecorded(handle.runId, StepKind.SIGNAL);
    await handle.pause();
    mayEnd.open();
    await isPaused(handle.runId);
    await handle.signal(go, 'came');
    expect(tries).toBe(1);
    await handle.resume();
    expect(await handle.result({ timeout: '20s' })).toEqual([2, 'came']);
  });

  it('a suspended run: a timer and a signal that come during the pause are kept, and it continues warm or replayed', async () => {
    for (const warmRuns of [0, 10]) {
      const taskQueue = newQueue();
      const go = signal<number>('go');
      const definition = workflow('suspended', async (ctx) => {
        const [, value] = await Promise.all([ctx.sleep('nap', '20d'), ctx.waitForSignal(go)]);
        return value;
      });
      await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns });
      const handle = await perdure.client.start(definition, { taskQueue });
      await until('the run to wait', async () => (await handle.get()).status === 'WAITING');
      await handle.pause();
      expect(await statusOf(handle.runId)).toBe('PAUSED');
      await endSleep(perdure, handle.runId);
      await handle.signal(go, 7);
      await pollsWait(perdure, taskQueue);
      expect(await statusOf(handle.runId)).toBe('PAUSED');
      await handle.resume();
      expect(await handle.result({ timeout: '20s' })).toBe(7);
    }
  });

  it('a cancel of a paused run takes effect when it is resumed; a termination at once; its timeouts count', async () => {
    const taskQueue = newQueue();
    const definition = workflow('to end', async (ctx) => ctx.sleep('nap', '40d'));
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const start = async (more = {}) => {
      const handle = await perdure.client.start(definition, { taskQueue, ...more });
      await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
      await handle.pause();
      return handle;
    };
    const [cancelled, terminated, late] = [await start(), await start(), await start({ runTimeout: '30d' })];
    await cancelled.cancel('no more');
    expect(await cancelled.get()).toMatchObject({ status: 'PAUSED', cancelRequestedAt: expect.any(Date) });
    await terminated.terminate();
    expect(await statusOf(terminated.runId)).toBe('TERMINATED');
    await cancelled.resume();
    await expect(cancelled.result({ timeout: '20s' })).rejects.toThrow('no more');
    await perdure.database.advanceClock(30 * 86_400_000 + 1);
    await until('the run timeout', async () => (await statusOf(late.runId)) === 'FAILED');
    for (const ended of [cancelled, terminated, late]) {
      const paused = ended.pause();
      await expect(paused).rejects.toMatchObject({ status: 'FAILED_PRECONDITION', reason: 'RUN_CLOSED' });
      await expect(ended.resume()).rejects.toMatchObject({ reason: 'RUN_CLOSED' });
    }
  });

  it('a worker written with unary calls: every call that begins a step is RUN_PAUSED, others are recorded', async () => {
    const taskQueue = newQueue();
    const worker = await registerRawWorker(perdure, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const run = await worker.claim();
    await perdure.workers.beginStep(begin(run, 'open'));
    const notice = perdure.workers.awaitNotices({ workerId: worker.workerId });
    expect(await perdure.workflows.pauseRun({ runId })).toMatchObject({ status: RunStatus.RUNNING });
    expect(await notice).toMatchObject({ paused: [fenceOf(run)] });
    const fence = fenceOf(run);
    const beginning = {
      ...fence,
      seq: 5,
      stepId: 's',
      attemptNumber: 1,
      eventSeq: 9,
    };
    const refused = [
      perdure.workers.beginStep(begin(run, 's', { seq: 5 })),
      perdure.workers.completeStep({ ...beginning, begin: { seq: 5, kind: StepKind.FUNCTION, countedAttempt: 1 } }),
      perdure.workers.scheduleSleep({ ...beginning, when: { case: 'duration', value: { seconds: 1n } } }),
      perdure.workers.awaitStep({ ...beginning, awaits: { case: 'signal', value: 'n' } }),
    ];
    for (const call of refused) {
      expect(await refusal(call)).toMatchObject({ status: 'FAILED_PRECONDITION', reason: 'RUN_PAUSED' });
    }
    const child = { stepId: 's', seq: 5, attemptNumber: 1, eventSeq: 9, workflowType: 'w' };
    const { outcomes } = await perdure.workers.startChildren({ ...fence, children: [child] });
    expect(outcomes).toMatchObject([{ paused: true, childRunId: '' }]);
    const beat = await perdure.workers.recordHeartbeat({ workerId: worker.workerId, leases: [fence] });
    expect(beat.leases).toMatchObject([{ renewed: true, paused: true }]);
    await perdure.workers.completeStep({ ...fence, stepId: 'open', attemptNumber: 1, eventSeq: 2 });
    await perdure.workers.releaseRun(fence);
    expect(await statusOf(runId)).toBe('PAUSED');
    const polling = worker.poll(20_000);
    await worker.waiting();
    expect(await perdure.workflows.resumeRun({ runId })).toMatchObject({ status: RunStatus.PENDING, resumed: true });
    expect(await polling).toMatchObject({ runId, leaseToken: 2, lostLeases: 0 });
    expect(await perdure.workflows.resumeRun({ runId })).toMatchObject({ status: RunStatus.RUNNING, resumed: false });
    await perdure.workflows.terminateRun({ runId });
  });

  describe.each(['task queue', 'workflow type'] as const)('of a %s', (kind) => {
    it('starts wait and say why, also beside a poll that waits; the resume lets them continue', async () => {
      const taskQueue = newQueue();
      const type = `type-${uuid()}`;
      const definition = workflow(type, async () => 'done');
      await perdure.startWorker({ taskQueue, workflows: [definition] });
      await pollsWait(perdure, taskQueue);
      const options = { reason: 'incident', actor: 'carol' };
      if (kind === 'task queue') await perdure.client.pauseTaskQueue(taskQueue, options);
      else await perdure.client.pauseWorkflowType(type, options);
      const handle = await perdure.client.start(definition, { taskQueue });
      const described = await perdure.workflows.describeRun({ runId: handle.runId });
      expect(described.run?.status).toBe(RunStatus.PENDING);
      expect(WaitReason[described.waitReason]).toBe(
        kind === 'task queue' ? 'TASK_QUEUE_PAUSED' : 'WORKFLOW_TYPE_PAUSED',
      );
      expect(described.explanation).toMatch(
        /was paused .* ago by carol \('incident'\); it waits until that is resumed/,
      );
      const name = kind === 'task queue' ? taskQueue : type;
      expect(await perdure.client.pauses()).toContainEqual({
        kind: kind === 'task queue' ? 'taskQueue' : 'workflowType',
        name,
        reason: 'incident',
        pausedBy: 'carol',
        pausedAt: expect.any(Date),
      });
      const { pauses } = await perdure.admin.diagnose({});
      expect(pauses).toContainEqual(
        expect.objectContaining({
          name,
          kind: kind === 'task queue' ? DispatchKind.TASK_QUEUE : DispatchKind.WORKFLOW_TYPE,
        }),
      );
      await pollsWait(perdure, taskQueue);
      if (kind === 'task queue') await perdure.client.resumeTaskQueue(taskQueue);
      else await perdure.client.resumeWorkflowType(type);
      expect(await handle.result({ timeout: '20s' })).toBe('done');
      expect((await perdure.client.pauses()).filter((pause) => pause.name === name)).toEqual([]);
    });

    it('with two servers no run is claimed after the answer, wherever it is started', async () => {
      const other = await perdure.startServer();
      const taskQueue = newQueue();
      const type = `type-${uuid()}`;
      const executed: number[] = [];
      const definition = workflow(type, async (_, n: number) => {
        executed.push(n);
      });
      await perdure.startWorker({ taskQueue, workflows: [definition], concurrency: 4 });
      const connection = new Connection({ address: other.grpcAddress });
      const elsewhere = new Client({ connection });
      const starting = (async () => {
        for (let n = 0; n < 60; n++) await (n % 2 ? elsewhere : perdure.client).start(definition, n, { taskQueue });
      })();
      if (kind === 'task queue') await elsewhere.pauseTaskQueue(taskQueue);
      else await elsewhere.pauseWorkflowType(type);
      const [claimed] = await perdure.database.sql<{ n: number }[]>`
        select count(*)::int as n from perdure.workflow_runs where task_queue = ${taskQueue} and lease_token > 0`;
      await starting;
      await pollsWait(perdure, taskQueue);
      const [later] = await perdure.database.sql<{ n: number }[]>`
        select count(*)::int as n from perdure.workflow_runs where task_queue = ${taskQueue} and lease_token > 0`;
      expect(later).toEqual(claimed);
      if (kind === 'task queue') await perdure.client.resumeTaskQueue(taskQueue);
      else await perdure.client.resumeWorkflowType(type);
      await until('all runs to be executed', async () => executed.length === 60);
      connection.close();
    });
  });

  describe('by a worker that cannot continue a run', () => {
    it('code that does not fit what is recorded: the run is held with both sides and the line, and fixed code continues it', async () => {
      const taskQueue = newQueue();
      let version = 1;
      const definition = workflow('changing', async (ctx) => {
        await ctx.step(version === 1 ? 'charge' : 'charge card', () => 1);
        await ctx.sleep('nap', '20d');
        return 'done';
      });
      await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
      const handle = await perdure.client.start(definition, { taskQueue });
      await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
      version = 2;
      await endSleep(perdure, handle.runId);
      await isPaused(handle.runId);
      const { pause, error } = await handle.get();
      expect(error).toBeUndefined();
      expect(pause).toMatchObject({ pausedBy: '', error: { name: 'NonDeterminismError' } });
      expect(pause?.error?.message).toMatch(
        /Position 1 was recorded as step 'charge' .* but the code now requests FUNCTION 'charge card' there .* The code is at .*pauses\.test\.[tj]s:\d+:\d+/s,
      );
      const { waitReason, explanation } = await perdure.workflows.describeRun({ runId: handle.runId });
      expect(waitReason).toBe(WaitReason.HELD);
      expect(explanation).toContain(`perdure run resume ${handle.runId}`);
      const { runs } = await perdure.workflows.listRuns({ held: true, workflowType: 'changing' });
      expect(runs.map(({ runId }) => runId)).toEqual([handle.runId]);
      const { paused } = await perdure.admin.diagnose({});
      expect(paused).toContainEqual(
        expect.objectContaining({ workflowType: 'changing', held: true, runs: 1n, newestRunId: handle.runId }),
      );
      version = 1;
      await handle.resume();
      expect(await handle.result({ timeout: '20s' })).toBe('done');
    });

    it('a value that it cannot decode: the run is left to other workers twice, then held, and one with the codec continues it', async () => {
      const taskQueue = newQueue();
      const codec = (key: string) => aesGcmCodec({ keys: { [key]: Buffer.alloc(32, key) }, activeKey: key });
      const definition = workflow('sealed', async (_, input: string) => input);
      const wrong = await perdure.startWorker({ taskQueue, workflows: [definition], codec: codec('other') });
      const client = new Client({ connection: perdure.connection, codec: codec('own') });
      const handle = await client.start(definition, 'secret', { taskQueue });
      await endSleep(perdure, handle.runId);
      await endSleep(perdure, handle.runId);
      await until('the run to be held', async () => {
        const { runs } = await perdure.workflows.listRuns({ held: true, taskQueue });
        return runs[0]?.pause?.failure?.message.includes('The input cannot be decoded') === true;
      });
      await wrong.shutdown();
      await perdure.startWorker({ taskQueue, workflows: [definition], codec: codec('own') });
      await handle.resume();
      expect(await handle.result({ timeout: '20s' })).toBe('secret');
    });

    it('HoldRun is fenced, and answers a repeat', async () => {
      const taskQueue = newQueue();
      const worker = await registerRawWorker(perdure, taskQueue);
      const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
      const run = await worker.claim();
      const stale = { ...fenceOf(run), leaseToken: 9, failure: failure() };
      expect((await refusal(perdure.workers.holdRun(stale))).reason).toBe('LEASE_LOST');
      await perdure.workers.holdRun({ ...fenceOf(run), failure: failure('why') });
      await perdure.workers.holdRun({ ...fenceOf(run), failure: failure('why') });
      expect((await refusal(perdure.workers.releaseRun(fenceOf(run)))).reason).toBe('LEASE_LOST');
      const { runs } = await perdure.workflows.listRuns({ held: true, taskQueue });
      expect(runs).toMatchObject([{ runId, pause: { failure: { message: 'why' } } }]);
    });
  });
});
