import { RunOrigin, RunStatus } from '@perdure/proto';
import { signal, update, WorkflowCancelledError, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { fenceOf, payload, refusal, registerRawWorker, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

const go = signal<string>('go');
const stop = signal<string>('stop');
const add = update<number, number>('add');

describe('continuing as a new run', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
    await perdure.admin.createNamespace({ name: 'other' });
  });
  afterAll(() => perdure.stop());
  const chainOf = async (workflowId: string) =>
    (await perdure.workflows.listRuns({ workflowId })).runs.sort((a, b) =>
      Number(
        (a.createdAt?.seconds ?? 0n) - (b.createdAt?.seconds ?? 0n) ||
          (a.createdAt?.nanos ?? 0) - (b.createdAt?.nanos ?? 0),
      ),
    );
  const reaches = (runId: string, status: string) =>
    until(`the run to be ${status}`, async () => (await perdure.client.handle(runId).get()).status === status);

  it('has an empty history and another input; the result is that of the last run of the chain', async () => {
    const taskQueue = `q-${uuid()}`;
    const workflowId = uuid();
    const bodies: number[] = [];
    let cleanedUp = 0;
    const count = workflow('count', async (ctx, n: number): Promise<number> => {
      try {
        await ctx.step('note', () => void bodies.push(n));
        if (n < 3) return await ctx.continueAsNew(n + 1);
        return n;
      } finally {
        cleanedUp++;
      }
    });
    await perdure.startWorker({ taskQueue, workflows: [count] });
    const handle = await perdure.client.start(count, 0, { taskQueue, workflowId, priority: 3 });
    expect(await handle.result({ timeout: '20s' })).toBe(3);
    expect(bodies).toEqual([0, 1, 2, 3]);
    expect(cleanedUp).toBe(1);
    const runs = await chainOf(workflowId);
    expect(runs).toHaveLength(4);
    for (const [index, run] of runs.entries()) {
      const { run: described } = await perdure.workflows.describeRun({ runId: run.runId });
      expect(described).toMatchObject({
        priority: 3,
        nextRunId: runs[index + 1]?.runId ?? '',
        firstRunId: index === 0 ? '' : handle.runId,
        originRunId: runs[index - 1]?.runId ?? '',
        origin: index === 0 ? RunOrigin.UNSPECIFIED : RunOrigin.CONTINUE,
      });
      expect((await perdure.workflows.getHistory({ runId: run.runId })).steps).toHaveLength(1);
    }
    expect(await handle.get()).toMatchObject({ status: 'CONTINUED' });
    expect(await perdure.client.execute(count, 1, { taskQueue })).toBe(3);
  });

  it('moves signals, updates, state and the run timeout along; messages to a run of the chain reach its end', async () => {
    const taskQueue = `q-${uuid()}`;
    const looping = workflow('looping', async (ctx, generation: number): Promise<unknown> => {
      if (generation === 0) {
        ctx.setState('first');
        await ctx.waitForSignal(go);
        return ctx.continueAsNew(1, { runTimeout: '2h' });
      }
      const early = await ctx.waitForSignal(stop);
      ctx.handle(add, (n) => n + 1);
      return [early, await ctx.waitForSignal(stop)];
    });
    await perdure.startWorker({ taskQueue, workflows: [looping] });
    const handle = await perdure.client.start(looping, 0, { taskQueue, runTimeout: '1h' });
    await reaches(handle.runId, 'WAITING');
    await handle.signal(stop, 'early');
    const answer = handle.update(add, 1, { timeout: '20s' });
    await until('the update to be kept', async () => {
      const [row] = await perdure.database.sql`
        select count(*)::int as n from perdure.run_updates where run_id = ${handle.runId}`;
      return row?.n === 1;
    });
    await handle.signal(go, 'now', { requestId: 'once' });
    expect(await answer).toBe(2);
    expect((await handle.get()).status).toBe('CONTINUED');
    const { run } = await perdure.workflows.describeRun({ runId: handle.runId });
    const next = perdure.client.handle(run?.nextRunId ?? '');
    expect(await next.state()).toBe('first');
    expect(await handle.update(add, 5, { timeout: '20s' })).toBe(6);
    // A repeat of what the first run has received.
    const { workflowId } = await handle.get();
    await perdure.workflows.signalRun({ workflowId, name: 'go', requestId: 'once', payload: payload('again') });
    const [signals] = await perdure.database.sql`
      select count(*)::int as n from perdure.signals where run_id = ${next.runId} and consumed_by is null`;
    expect(signals?.n).toBe(0);
    await handle.signal(stop, 'late');
    expect(await handle.result({ timeout: '20s' })).toEqual(['early', 'late']);
    const [deadline] = await perdure.database.sql`
      select extract(epoch from run_deadline_at - created_at)::int as s from perdure.workflow_runs where run_id = ${next.runId}`;
    expect(deadline?.s).toBe(7_200);
  });

  it('is awaited by the parent until the end of the chain, and cancelled and terminated by any run of it', async () => {
    const taskQueue = `q-${uuid()}`;
    const child = workflow('child', async (ctx, n: number): Promise<string> => {
      if (n < 2) return ctx.continueAsNew(n + 1);
      return ctx.waitForSignal(go);
    });
    const parent = workflow('parent', async (ctx, _: undefined) => {
      const started = ctx.startChild(child, 0);
      await ctx.waitForSignal(stop);
      await started.signal(go, 'from the parent');
      return started.result();
    });
    await perdure.startWorker({ taskQueue, workflows: [child, parent] });
    const handle = await perdure.client.start(parent, undefined, { taskQueue });
    const children = async () => (await perdure.workflows.listRuns({ parentRunId: handle.runId })).runs;
    await until('the chain', async () => (await children()).length === 3);
    await handle.signal(stop, '');
    expect(await handle.result({ timeout: '20s' })).toBe('from the parent');

    for (const act of ['cancel', 'terminate'] as const) {
      const workflowId = uuid();
      const first = await perdure.client.start(child, 0, { taskQueue, workflowId });
      await until('the chain', async () => (await chainOf(workflowId)).length === 3);
      await first[act]('enough');
      const error = await first.result({ timeout: '20s' }).catch((thrown: unknown) => thrown);
      expect((error as Error).name).toBe(act === 'cancel' ? 'WorkflowCancelledError' : 'WorkflowTerminatedError');
      expect((await first.get()).status).toBe('CONTINUED');
    }
  });

  it('takes a cancel request along that the code has not heeded', async () => {
    const taskQueue = `q-${uuid()}`;
    const stubborn = workflow('stubborn', async (ctx, n: number): Promise<string> => {
      if (n === 0) {
        await ctx.waitForSignal(go).catch(() => undefined);
        return ctx.continueAsNew(1, { startDelay: '1h' });
      }
      return ctx.waitForSignal(go);
    });
    await perdure.startWorker({ taskQueue, workflows: [stubborn] });
    const handle = await perdure.client.start(stubborn, 0, { taskQueue });
    await reaches(handle.runId, 'WAITING');
    await handle.cancel('enough');
    await expect(handle.result({ timeout: '20s' })).rejects.toBeInstanceOf(WorkflowCancelledError);
  });

  it('takes a pause along, and is paused and resumed by any run of the chain', async () => {
    const taskQueue = `q-${uuid()}`;
    const worker = await registerRawWorker(perdure, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const lease = fenceOf(await worker.claim());
    await perdure.workflows.pauseRun({ runId, reason: 'wrong prices', actor: 'alice' });
    const { nextRunId } = await perdure.workers.continueWorkflow({ ...lease, input: payload(1) });
    const successor = async () => (await perdure.workflows.getRun({ runId: nextRunId })).run;
    expect(await successor()).toMatchObject({
      status: RunStatus.PAUSED,
      pause: { pausedBy: 'alice', reason: 'wrong prices' },
    });
    expect(await perdure.workflows.resumeRun({ runId })).toMatchObject({ status: RunStatus.PENDING, resumed: true });
    expect(await perdure.workflows.pauseRun({ runId })).toMatchObject({ status: RunStatus.PAUSED });
    await perdure.workflows.resumeRun({ runId: nextRunId });
    expect((await successor())?.pause).toBeUndefined();
    expect((await worker.claim()).runId).toBe(nextRunId);
  });

  it('refuses options and inputs that are wrong where it is called', async () => {
    const taskQueue = `q-${uuid()}`;
    const wrong = workflow('wrong', async (ctx, _: undefined) => {
      const errors: string[] = [];
      const note = (error: Error) => void errors.push(error.message);
      await ctx.continueAsNew(1, { task: 'q' } as never).catch(note);
      await ctx.continueAsNew(1, { priority: 101 }).catch(note);
      await ctx.continueAsNew(() => 1).catch(note);
      await ctx.step('inside', () => ctx.continueAsNew(1)).catch(note);
      return errors;
    });
    await perdure.startWorker({ taskQueue, workflows: [wrong] });
    expect(await perdure.client.execute(wrong, undefined, { taskQueue, timeout: '20s' })).toEqual([
      expect.stringContaining("'task'"),
      expect.stringContaining('101'),
      expect.stringContaining('The input of ctx.continueAsNew'),
      expect.stringContaining('inside the body'),
    ]);
  });

  it('is fenced by the lease, and answered alike when the call is repeated', async () => {
    const taskQueue = `q-${uuid()}`;
    const worker = await registerRawWorker(perdure, taskQueue);
    const { runId } = await perdure.workflows.startWorkflow(startRequest({ taskQueue }));
    const run = await worker.claim();
    const lease = fenceOf(run);
    const stale = { ...lease, leaseToken: lease.leaseToken - 1 };
    expect(
      await refusal(perdure.workers.continueWorkflow({ ...lease, leaseToken: lease.leaseToken + 1 })),
    ).toMatchObject({
      reason: 'LEASE_LOST',
    });
    expect(await refusal(perdure.workers.continueWorkflow({ ...lease, namespace: 'other' }))).toMatchObject({
      reason: 'RUN_NOT_FOUND',
    });
    const first = await perdure.workers.continueWorkflow({ ...lease, input: payload(1) });
    expect(await perdure.workers.continueWorkflow({ ...lease, input: payload(1) })).toEqual(first);
    expect((await refusal(perdure.workers.completeWorkflow(lease))).reason).toBe('LEASE_LOST');
    expect((await refusal(perdure.workers.continueWorkflow(stale))).status).not.toBe('OK');
    expect((await perdure.workflows.getRun({ runId })).run?.nextRunId).toBe(first.nextRunId);
    expect(await refusal(perdure.workflows.retryRun({ runId }))).toMatchObject({ reason: 'WRONG_RUN_STATE' });
    expect((await worker.claim()).runId).toBe(first.nextRunId);
  });
});
