import { Compensation, RunStatus, StepStatus } from '@perdure/proto';
import { type WorkflowContext, WorkflowFailedError, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal } from '../support/raw-worker.js';
import { until } from '../support/until.js';

const once = { retry: { maxAttempts: 1 } } as const;
const END = { timeout: '20s' } as const;

describe('a run whose compensations have failed in part', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, reclaimBackoffMs: 0, maxReclaimBackoffMs: 0 } });
  });
  afterAll(() => perdure.stop());

  /** Books, and undoes it; what is broken cannot be undone. */
  const effects: string[] = [];
  const broken = new Set<string>();
  const book = async (ctx: WorkflowContext, name: string) => {
    await ctx.step(name, () => void effects.push(name));
    const undo = () => {
      effects.push(`undo ${name}`);
      if (broken.has(name)) throw new Error(`${name} cannot be undone`);
    };
    ctx.onCompensate(name, undo, once);
  };
  const started = async (code: (ctx: WorkflowContext) => Promise<unknown>) => {
    effects.length = 0;
    broken.clear();
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('trip', code);
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition] });
    return { handle: await perdure.client.start(definition, { taskQueue }), worker, taskQueue, definition };
  };
  const failed = async (handle: { result(options: object): Promise<unknown> }) => {
    const error: unknown = await handle.result(END).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(WorkflowFailedError);
    return error as WorkflowFailedError;
  };
  const stepsOf = async (runId: string) =>
    (await perdure.workflows.getHistory({ runId })).steps.map(
      ({ stepId, attemptNumber, status }) => `${stepId}/${attemptNumber} ${StepStatus[status]}`,
    );
  const reaches = (runId: string, status: string) =>
    until(`the run to be ${status}`, async () => (await perdure.client.handle(runId).get()).status === status);

  it('is retried: the compensations that have failed are tried again, and nothing else', async () => {
    const { handle } = await started(async (ctx) => {
      for (const name of ['flight', 'hotel', 'car']) await book(ctx, name);
      broken.add('hotel');
      throw new Error('no seat');
    });
    const first = await failed(handle);
    expect(first.compensation).toMatchObject({ status: 'PARTIAL' });
    expect(effects).toEqual(['flight', 'hotel', 'car', 'undo car', 'undo hotel', 'undo flight']);

    // Still broken: it ends as before, and may be retried again.
    effects.length = 0;
    broken.add('hotel');
    await handle.retry({ reason: 'the hotel is back', actor: 'ada' });
    expect((await failed(handle)).compensation).toMatchObject({
      status: 'PARTIAL',
      failed: [{ stepId: 'compensate:hotel' }],
    });
    expect(effects).toEqual(['undo hotel']);

    effects.length = 0;
    await handle.retry();
    // The code fails as before, and breaks it again while it replays.
    await failed(handle);
    expect(effects).toEqual(['undo hotel']);
    expect(await stepsOf(handle.runId)).toEqual([
      'flight/1 COMPLETED',
      'hotel/1 COMPLETED',
      'car/1 COMPLETED',
      'compensate:car/1 COMPLETED',
      'compensate:hotel/1 FAILED',
      'compensate:hotel/2 FAILED',
      'compensate:hotel/3 FAILED',
      'compensate:flight/1 COMPLETED',
    ]);
  });

  it('ends as FAILED with everything compensated once they succeed, and is not retried then', async () => {
    let isBroken = true;
    const { handle } = await started(async (ctx) => {
      for (const name of ['flight', 'hotel', 'car']) await book(ctx, name);
      if (isBroken) for (const name of ['car', 'flight']) broken.add(name);
      throw new Error('no seat');
    });
    await failed(handle);
    isBroken = false;
    broken.clear();
    effects.length = 0;
    await handle.retry();
    const error = await failed(handle);
    expect(error.compensation).toMatchObject({
      status: 'COMPLETE',
      compensated: expect.arrayContaining(['compensate:car', 'compensate:hotel', 'compensate:flight']),
      failed: [],
    });
    expect((error.cause as Error).message).toBe('no seat');
    expect(effects).toEqual(['undo car', 'undo flight']);
    expect(await handle.get()).toMatchObject({ status: 'FAILED', compensation: 'COMPLETE', attempt: 2 });
    const refused = await refusal(handle.retry());
    expect(refused).toMatchObject({
      reason: 'WRONG_RUN_STATE',
      message: expect.stringMatching(/cannot be retried: what its steps have done is undone .*run restart/),
    });
  });

  it('that was cancelled keeps its cancel request, and is CANCELLED once they succeed', async () => {
    let isBroken = true;
    const { handle } = await started(async (ctx) => {
      await book(ctx, 'flight');
      if (isBroken) broken.add('flight');
      await ctx.sleep('nap', '1h');
    });
    await reaches(handle.runId, 'SLEEPING');
    await handle.cancel('changed my mind');
    expect((await failed(handle)).compensation).toMatchObject({ status: 'PARTIAL' });
    isBroken = false;
    broken.clear();
    await handle.retry();
    await reaches(handle.runId, 'CANCELLED');
    const { run } = await perdure.workflows.getRun({ runId: handle.runId });
    expect(run).toMatchObject({ compensation: Compensation.COMPLETE, cancelReason: 'changed my mind' });
    expect(effects).toEqual(['flight', 'undo flight', 'undo flight']);
  });

  it('continues without a compensation that was skipped or completed by hand', async () => {
    const { handle } = await started(async (ctx) => {
      for (const name of ['flight', 'hotel']) await book(ctx, name);
      for (const name of ['flight', 'hotel']) broken.add(name);
      throw new Error('no seat');
    });
    await failed(handle);
    effects.length = 0;
    expect(await refusal(handle.skipStep('flight'))).toMatchObject({ reason: 'STEP_ENDED' });
    await handle.skipStep('compensate:flight', { reason: 'the airline has refunded it' });
    await handle.completeStep('compensate:hotel');
    await handle.retry();
    expect((await failed(handle)).compensation).toMatchObject({ status: 'COMPLETE' });
    expect(effects).toEqual([]);
    expect(await stepsOf(handle.runId)).toContain('compensate:flight/2 SKIPPED');
  });

  it('that was terminated while it was compensated continues where it was', async () => {
    let isStuck = true;
    let calls = 0;
    const { handle } = await started(async (ctx) => {
      for (const name of ['flight', 'hotel']) await book(ctx, name);
      const stuck = ({ signal }: { readonly signal: AbortSignal }) => {
        calls++;
        return new Promise<void>((resolve) => {
          if (isStuck) signal.addEventListener('abort', () => resolve());
          else resolve();
        });
      };
      await ctx.step('car', () => undefined);
      ctx.onCompensate('car', stuck, once);
      const open = ctx.waitForSignal('never');
      await ctx.step('fails', () => Promise.reject(new Error('no seat')), once);
      await open;
    });
    await until('the compensation to begin', () => calls === 1);
    await until('its beginning', async () => (await stepsOf(handle.runId)).includes('compensate:car/1 RUNNING'));
    await handle.terminate();
    expect(await handle.get()).toMatchObject({ status: 'TERMINATED', compensation: 'PARTIAL' });
    isStuck = false;
    await handle.retry();
    expect((await failed(handle)).compensation).toMatchObject({ status: 'COMPLETE', failed: [] });
    expect(effects).toEqual(['flight', 'hotel', 'undo hotel', 'undo flight']);
    expect(calls).toBe(2);
  });

  it('is compensated further by another worker, when its worker is lost in the retry', async () => {
    let isBroken = true;
    let isLost = false;
    const { handle, worker, taskQueue, definition } = await started(async (ctx) => {
      for (const name of ['flight', 'hotel']) await book(ctx, name);
      await ctx.step('car', () => undefined);
      const undo = async () => {
        effects.push('undo car');
        if (isBroken) throw new Error('car cannot be undone');
        if (isLost) {
          isLost = false;
          await worker.shutdown(0);
        }
      };
      ctx.onCompensate('car', undo, once);
      if (isBroken) broken.add('flight');
      throw new Error('no seat');
    });
    await failed(handle);
    isBroken = false;
    broken.clear();
    isLost = true;
    effects.length = 0;
    await handle.retry();
    await until('the worker to be lost', () => !isLost);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect((await failed(handle)).compensation).toMatchObject({ status: 'COMPLETE', failed: [] });
    expect(effects.at(-1)).toBe('undo flight');
    expect(effects).not.toContain('undo hotel');
    const { run } = await perdure.workflows.getRun({ runId: handle.runId });
    expect(run).toMatchObject({ status: RunStatus.FAILED, compensation: Compensation.COMPLETE });
  });
});
