import { RunStatus, WaitReason } from '@perdure/proto';
import { CancelledError, WorkflowCancelledError, WorkflowTerminatedError, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gate, holdAnswers } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { begin, fenceOf, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('sleep and cancel', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
  });
  afterAll(() => perdure.stop());
  const newQueue = () => `q-${uuid()}`;
  const statusOf = async (runId: string) => (await perdure.workflows.getRun({ runId })).run?.status;

  const sleeper = async (taskQueue: string, seconds = 3_600n) => {
    const worker = await registerRawWorker(perdure, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const run = await worker.claim();
    await perdure.workers.scheduleSleep({
      ...fenceOf(run),
      stepId: 'nap',
      seq: 1,
      when: { case: 'duration', value: { seconds } },
    });
    const { suspended } = await perdure.workers.suspendRun({
      ...fenceOf(run),
      waits: [{ stepId: 'nap', kind: { case: 'timer', value: {} } }],
    });
    expect(suspended).toBe(true);
    return { worker, runId, run };
  };

  it('sub-millisecond and zero sleeps end at once, a sleep until the past too', async () => {
    const taskQueue = newQueue();
    const definition = workflow('short', async (ctx) => {
      await ctx.sleep(0);
      await ctx.sleep(0.2);
      await ctx.sleepUntil(new Date(0));
      return 'awake';
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await perdure.client.execute(definition, undefined, { taskQueue, timeout: '10s' })).toBe('awake');
  });

  it('a sleep does not end early, and a replay does not sleep again', async () => {
    const taskQueue = newQueue();
    let executions = 0;
    const definition = workflow('nap', async (ctx, minutes: number) => {
      executions++;
      const beganMs = ctx.now().getTime();
      await ctx.sleep('nap', minutes * 60_000);
      return ctx.now().getTime() - beganMs;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const handle = await perdure.client.start(definition, 10, { taskQueue });
    const earlier = await perdure.client.start(definition, 9, { taskQueue });
    await until('it to sleep', async () => (await handle.get()).status === 'SLEEPING');
    // The look that wakes the one has found the other asleep.
    await endSleep(perdure, earlier.runId);
    expect((await handle.get()).status).toBe('SLEEPING');
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '10s' })).toBeGreaterThanOrEqual(600_000);
    expect(await earlier.result({ timeout: '10s' })).toBeGreaterThanOrEqual(540_000);
    // Each was replayed; how often besides depends on whether a moved clock meets a lease.
    expect(executions).toBeGreaterThanOrEqual(4);
  });

  it('sleeps of 30 days are recorded exactly, and describe says so', async () => {
    const { runId } = await sleeper(newQueue(), BigInt(30 * 24 * 3_600));
    const described = await perdure.workflows.describeRun({ runId });
    expect(described.waitReason).toBe(WaitReason.TIMER);
    expect(described.explanation).toContain('30 d');
    expect(Number(described.run?.wakeAt?.seconds) - Number(described.now?.seconds)).toBeGreaterThan(
      30 * 24 * 3_600 - 5,
    );
  });

  it('a suspended run is claimable after it woke up', async () => {
    const { worker, runId } = await sleeper(newQueue());
    expect(await statusOf(runId)).toBe(RunStatus.SLEEPING);
    expect(await worker.poll(1)).toBeUndefined();
    await endSleep(perdure, runId);
    const again = await worker.claim();
    expect(again).toMatchObject({ runId, leaseToken: 2, attempt: 1 });
    expect(again.memo[0]).toMatchObject({ stepId: 'nap', status: 2 });
  });

  it('a timer that is not due cannot be completed', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    await perdure.workers.scheduleSleep({
      ...fenceOf(run),
      stepId: 'nap',
      seq: 1,
      when: { case: 'duration', value: { seconds: 60n } },
    });
    const error = await refusal(
      perdure.workers.completeStep({ ...fenceOf(run), stepId: 'nap', attemptNumber: 1, eventSeq: 1 }),
    );
    expect(error.reason).toBe('TIMER_NOT_DUE');
    expect(error.retryAfterMs).toBeGreaterThan(50_000);
  });

  it('a suspension whose timer is already due keeps the lease', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    await perdure.workers.scheduleSleep({
      ...fenceOf(run),
      stepId: 'nap',
      seq: 1,
      when: { case: 'duration', value: {} },
    });
    const answer = await perdure.workers.suspendRun({
      ...fenceOf(run),
      waits: [{ stepId: 'nap', kind: { case: 'timer', value: {} } }],
    });
    expect(answer).toMatchObject({ suspended: false, readyStepIds: ['nap'] });
  });

  it('many sleepers that are due at once wake in batches', async () => {
    const taskQueue = newQueue();
    const definition = workflow('together', async (ctx, until: Date) => {
      await ctx.sleepUntil('until', until);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const dueAt = new Date(Date.now() + 24 * 3_600_000);
    const handles = await perdure.client.startMany(
      definition,
      Array.from({ length: 300 }, () => ({ input: dueAt, options: { taskQueue } })),
    );
    await endSleep(perdure, ...handles.map((handle) => ('runId' in handle ? handle.runId : '')));
    await Promise.all(
      handles.map((handle) => ('result' in handle ? handle.result({ timeout: '25s' }) : Promise.reject(handle))),
    );
    const [row] = await perdure.database.sql<{ early: number }[]>`
      select count(*)::int as early from perdure.workflow_runs where task_queue = ${taskQueue} and finished_at < ${dueAt}`;
    expect(row?.early).toBe(0);
  });

  it('a run survives the restart of its worker during a sleep', async () => {
    const taskQueue = newQueue();
    const definition = workflow('survivor', async (ctx) => {
      const before = await ctx.step('before', () => 'kept');
      await ctx.sleep('10m');
      return before;
    });
    const first = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    await first.shutdown();
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '10s' })).toBe('kept');
  });

  it('a cancel ends a run that was never claimed at once, and a repeat changes nothing', async () => {
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: newQueue() }));
    expect((await perdure.workflows.cancelRun({ runId, reason: 'no need' })).status).toBe(RunStatus.CANCELLED);
    expect((await perdure.workflows.cancelRun({ runId })).status).toBe(RunStatus.CANCELLED);
    expect((await perdure.workflows.getRun({ runId })).run?.cancelReason).toBe('no need');
  });

  it('cancel of a completed run is refused', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    await perdure.workers.completeWorkflow(fenceOf(await worker.claim()));
    for (const method of ['cancelRun', 'terminateRun'] as const) {
      expect(await refusal(perdure.workflows[method]({ runId }))).toMatchObject({
        status: 'FAILED_PRECONDITION',
        reason: 'WRONG_RUN_STATE',
      });
    }
  });

  it('a cancel wakes a sleeping run, whose code sees it and cleans up', async () => {
    const taskQueue = newQueue();
    const cleaned: string[] = [];
    const definition = workflow('sleeping', async (ctx) => {
      try {
        await ctx.sleep('1h');
      } catch (error) {
        expect(error).toBeInstanceOf(CancelledError);
        await ctx.uncancellable(async () => {
          await ctx.step('refund', () => {
            cleaned.push('refund');
          });
          await ctx.sleep('settle', 300);
          await ctx.step('notify', () => {
            cleaned.push('notify');
          });
        });
        throw error;
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the run to sleep', async () => (await handle.get()).status === 'SLEEPING');
    await handle.cancel('changed my mind');
    const error = await handle.result({ timeout: '15s' }).catch((thrown: unknown) => thrown as Error);
    expect(error).toBeInstanceOf(WorkflowCancelledError);
    expect((error as Error).message).toContain('changed my mind');
    expect(cleaned).toEqual(['refund', 'notify']);
  });

  it('cancel aborts a running body, and no new step begins', async () => {
    const taskQueue = newQueue();
    const begun: string[] = [];
    const definition = workflow('running', async (ctx) => {
      await ctx.step('long', ({ signal }) => {
        begun.push('long');
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      });
      await ctx.step('next', () => {
        begun.push('next');
      });
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], leaseDuration: '1s' });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await until('the body to run', () => begun.length > 0);
    await handle.cancel();
    await expect(handle.result({ timeout: '15s' })).rejects.toBeInstanceOf(WorkflowCancelledError);
    expect(begun).toEqual(['long']);
  });

  it('after an acknowledged cancel the server refuses new steps, except those of clean-up', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    await perdure.workflows.cancelRun({ runId });
    expect((await refusal(perdure.workers.beginStep(begin(run, 's')))).reason).toBe('CANCEL_REQUESTED');
    const nap = { ...fenceOf(run), stepId: 'n', seq: 1, when: { case: 'duration' as const, value: {} } };
    expect((await refusal(perdure.workers.scheduleSleep(nap))).reason).toBe('CANCEL_REQUESTED');
    await perdure.workers.beginStep({ ...begin(run, 's'), uncancellable: true });
    const { leases } = await perdure.workers.recordHeartbeat({ workerId: worker.workerId, leases: [fenceOf(run)] });
    expect(leases[0]?.cancelRequested).toBe(true);
    await perdure.workers.confirmCancel(fenceOf(run));
    expect(await statusOf(runId)).toBe(RunStatus.CANCELLED);
  });

  it('a cancel that was not requested cannot be confirmed', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    expect((await refusal(perdure.workers.confirmCancel(fenceOf(run)))).reason).toBe('WRONG_RUN_STATE');
  });

  it('a run that completes in spite of a cancel is COMPLETED', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    await perdure.workflows.cancelRun({ runId });
    await perdure.workers.completeWorkflow(fenceOf(run));
    expect(await statusOf(runId)).toBe(RunStatus.COMPLETED);
  });

  it('terminate ends a run in any open status, and its worker loses its lease', async () => {
    const worker = await registerRawWorker(perdure, newQueue());
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
    const run = await worker.claim();
    await perdure.workers.beginStep(begin(run, 's'));
    await perdure.workflows.terminateRun({ runId, reason: 'stop' });
    await perdure.workflows.terminateRun({ runId });
    expect((await refusal(perdure.workers.completeWorkflow(fenceOf(run)))).reason).toBe('LEASE_LOST');
    const error = await perdure.client
      .handle(runId)
      .result()
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkflowTerminatedError);
    const sleeping = await sleeper(newQueue());
    await perdure.workflows.terminateRun({ runId: sleeping.runId });
    expect(await statusOf(sleeping.runId)).toBe(RunStatus.TERMINATED);
  });

  it('when complete, cancel, terminate and fail race, exactly one decides', async () => {
    for (let round = 0; round < 40; round++) {
      const worker = await registerRawWorker(perdure, newQueue());
      const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue: worker.taskQueue }));
      const run = await worker.claim();
      const [completed, failed, terminated] = await Promise.allSettled([
        perdure.workers.completeWorkflow(fenceOf(run)),
        perdure.workers.failWorkflow({ ...fenceOf(run), failure: { message: 'x' } }),
        perdure.workflows.terminateRun({ runId }),
        perdure.workflows.cancelRun({ runId }),
      ]);
      const status = await statusOf(runId);
      const winners = [completed, failed, terminated].filter((outcome) => outcome?.status === 'fulfilled');
      expect(winners).toHaveLength(1);
      const expected =
        completed?.status === 'fulfilled'
          ? RunStatus.COMPLETED
          : failed?.status === 'fulfilled'
            ? RunStatus.FAILED
            : RunStatus.TERMINATED;
      expect(status).toBe(expected);
    }
  });

  it('a cancel reaches a running body at once, not with the next heartbeat', async () => {
    const taskQueue = newQueue();
    const [listens, hears] = [gate(), gate()];
    const definition = workflow('listener', async (ctx) => {
      await ctx.step('listen', async ({ signal }) => {
        signal.addEventListener('abort', hears.open);
        listens.open();
        await hears.opened;
        // A body that ended well would complete the run.
        signal.throwIfAborted();
      });
    });
    // No heartbeat is answered while it runs.
    const connection = holdAnswers(perdure.connection, { recordHeartbeat: () => hears.opened });
    await perdure.startWorker({ taskQueue, workflows: [definition], connection });
    const handle = await perdure.client.start(definition, undefined, { taskQueue });
    await listens.opened;
    await handle.cancel();
    await expect(handle.result({ timeout: '20s' })).rejects.toBeInstanceOf(WorkflowCancelledError);
  });
});
