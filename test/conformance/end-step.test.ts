import { RunActionKind, StepStatus } from '@perdure/proto';
import {
  aesGcmCodec,
  Client,
  signal,
  TerminalError,
  type Workflow,
  type WorkflowContext,
  WorkflowFailedError,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal } from '../support/raw-worker.js';
import { until } from '../support/until.js';

const go = signal('go', z.object({ by: z.string() }));
const END = { timeout: '20s' } as const;

/** A body that is at work until it is let go. */
function stuck(name: string) {
  const release: () => void = () => undefined;
  const state = { calls: 0, aborted: undefined as unknown, ended: 0, release };
  const gate = new Promise<void>((resolve) => {
    state.release = resolve;
  });
  const body = async (step: { readonly signal: AbortSignal }) => {
    state.calls++;
    step.signal.addEventListener('abort', () => {
      state.aborted = step.signal.reason;
    });
    await gate;
    state.ended++;
    return `${name} itself`;
  };
  return { state, body };
}

describe('a step that is ended by hand', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  const started = async <Output>(code: (ctx: WorkflowContext) => Promise<Output>, more: object = {}) => {
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('w', async (ctx, _: undefined) => code(ctx)) as Workflow<undefined, Output>;
    await perdure.startWorker({ taskQueue, workflows: [definition], ...more });
    return perdure.client.start(definition, { taskQueue });
  };
  const stepOf = async (runId: string, stepId: string) =>
    (await perdure.workflows.getHistory({ runId })).steps.find((step) => step.stepId === stepId && step.isLatest);
  const isRecorded = (runId: string, stepId: string, status = StepStatus.RUNNING) =>
    until(`step ${stepId}`, async () => (await stepOf(runId, stepId))?.status === status);
  const reaches = (runId: string, status: string) =>
    until(`the run to be ${status}`, async () => (await perdure.client.handle(runId).get()).status === status);
  const failed = async (handle: { result(options: object): Promise<unknown> }) =>
    expect(await handle.result(END).catch((error: unknown) => error)).toBeInstanceOf(WorkflowFailedError);

  it('whose body is at work: the body is asked to stop, its result has no effect, and its siblings are left alone', async () => {
    const [hung, sibling] = [stuck('hung'), stuck('sibling')];
    const handle = await started(async (ctx) => {
      const both = [ctx.step('hung', hung.body), ctx.step('sibling', sibling.body)];
      const first = await Promise.race(both);
      const after = await ctx.step('after', () => `after ${first}`);
      // A replay must see the same.
      await ctx.waitForSignal(go);
      return [after, ...(await Promise.all(both))];
    });
    await isRecorded(handle.runId, 'hung');
    await isRecorded(handle.runId, 'sibling');
    await handle.completeStep('hung', 'by hand', { actor: 'ada', reason: 'the bank says it was paid' });
    await isRecorded(handle.runId, 'after', StepStatus.COMPLETED);
    expect(hung.state.aborted).toMatchObject({ name: 'CancelledError', message: expect.stringMatching(/by hand/) });
    expect(sibling.state.aborted).toBeUndefined();
    hung.state.release();
    sibling.state.release();
    await handle.signal(go, { by: 'me' });
    expect(await handle.result(END)).toEqual(['after by hand', 'by hand', 'sibling itself']);
    expect([hung.state.calls, sibling.state.calls]).toEqual([1, 1]);

    const byHand = {
      kind: RunActionKind.COMPLETE_STEP,
      actor: 'ada',
      reason: 'the bank says it was paid',
      stepId: 'hung',
    };
    expect(await stepOf(handle.runId, 'hung')).toMatchObject({ status: StepStatus.COMPLETED, byHand });
    expect((await stepOf(handle.runId, 'sibling'))?.byHand).toBeUndefined();
    expect((await perdure.workflows.describeRun({ runId: handle.runId })).actions).toMatchObject([byHand]);
    const { attempts } = await perdure.workflows.listStepAttempts({ runId: handle.runId, stepId: 'hung' });
    expect(attempts).toMatchObject([{ byHand }]);
  });

  it('that waits hours for its next attempt is skipped, or fails, and the run continues at once', async () => {
    for (const how of ['skip', 'fail'] as const) {
      const handle = await started(async (ctx) => {
        const broken = () => {
          throw new Error('out of order');
        };
        try {
          return [await ctx.step('broken', broken, { retry: { initial: '1h' } })];
        } catch (error) {
          return (error as Error).message;
        }
      });
      await reaches(handle.runId, 'SLEEPING');
      if (how === 'skip') await handle.skipStep('broken');
      else await handle.failStep('broken', new TypeError('given up'));
      expect(await handle.result(END)).toEqual(how === 'skip' ? [undefined] : 'given up');
      const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
      expect(steps.map(({ status }) => StepStatus[status])).toEqual(['FAILED', how === 'skip' ? 'SKIPPED' : 'FAILED']);
    }
  });

  it('that waits for something from outside or for a time gets it; skipped, it gets undefined, whatever its schema says', async () => {
    const child = workflow('w', async () => 'never');
    const handle = await started(async (ctx) =>
      Promise.all([
        ctx.waitForSignal(go),
        ctx.waitForSignal('any'),
        ctx.waitForEvent('paid'),
        ctx.promise('answer').result(),
        ctx.sleep('nap', '1h').then(() => 'slept'),
        ctx.sleep('doze', '1h').catch((error: Error) => error.message),
        ctx.child(child, undefined, { taskQueue: 'nobody', name: 'child' }),
      ]),
    );
    await reaches(handle.runId, 'WAITING');
    const childRun = async () => (await perdure.workflows.getRunTree({ runId: handle.runId })).nodes[1]?.run;
    expect((await childRun())?.finishedAt).toBeUndefined();
    await handle.skipStep('go');
    await handle.completeStep('any', 'a signal');
    await handle.completeStep('paid', { amount: 1 });
    await handle.completeStep('answer', 42);
    await handle.completeStep('nap');
    await handle.failStep('doze', new Error('woken'));
    await handle.completeStep('child', 'a result');
    expect(await handle.result(END)).toEqual([undefined, 'a signal', { amount: 1 }, 42, 'slept', 'woken', 'a result']);
    await until('the child to be closed', async () => (await childRun())?.finishedAt !== undefined);
  });

  it('of a run that has FAILED: retry continues with the outcome, and not with another attempt', async () => {
    let calls = 0;
    const handle = await started(async (ctx) => {
      const charged = await ctx.step('charge', () => {
        calls++;
        throw new TerminalError('declined');
      });
      return [charged, await ctx.step('ship', () => 'shipped')];
    });
    await failed(handle);
    await handle.completeStep('charge', 'paid in cash');
    expect(await handle.get()).toMatchObject({ status: 'FAILED' });
    await handle.retry();
    expect(await handle.result(END)).toEqual(['paid in cash', 'shipped']);
    expect(calls).toBe(1);
  });

  it('whose failure by hand has failed its run begins again with a retry: a body, a wait, a timer', async () => {
    const handle = await started(async (ctx) => {
      const hung = ctx.step('body', () => new Promise(() => undefined));
      const results = await Promise.allSettled([
        hung,
        ctx.waitForSignal('wait'),
        ctx.sleep('nap', '1h'),
        ctx.promise('p').result(),
      ]);
      const failures = results.filter((one) => one.status === 'rejected').map(({ reason }) => reason as Error);
      if (failures.length > 0) throw new AggregateError(failures, failures.map(({ message }) => message).join());
      return results.map((one) => (one.status === 'fulfilled' ? one.value : undefined));
    });
    for (const stepId of ['body', 'wait', 'nap', 'p']) await isRecorded(handle.runId, stepId);
    await handle.completeStep('p', 'settled');
    for (const stepId of ['body', 'wait', 'nap']) await handle.failStep(stepId, new TerminalError(stepId));
    await failed(handle);
    await handle.retry();
    for (const stepId of ['body', 'wait', 'nap']) {
      await isRecorded(handle.runId, stepId);
      await handle.completeStep(stepId, ...(stepId === 'nap' ? [] : [`${stepId} again`]));
    }
    expect(await handle.result(END)).toEqual(['body again', 'wait again', undefined, 'settled']);
  });

  it('of a run that was terminated in a body that is executed at most once: retry continues with the outcome', async () => {
    const hung = stuck('hung');
    const handle = await started(async (ctx) =>
      ctx.step('hung', hung.body, { begin: 'durable', retry: { maxAttempts: 1 } }),
    );
    await isRecorded(handle.runId, 'hung');
    await handle.terminate();
    await handle.completeStep('hung', 'by hand');
    await handle.retry();
    expect(await handle.result(END)).toBe('by hand');
    expect(hung.state.calls).toBe(1);
  });

  it('of a paused run: the outcome is recorded at once, the run given back, and its code continues after the resume', async () => {
    const hung = stuck('hung');
    const handle = await started(async (ctx) => [
      await ctx.step('hung', hung.body),
      await ctx.step('after', () => 'after'),
    ]);
    await isRecorded(handle.runId, 'hung');
    await handle.pause();
    expect(await handle.get()).toMatchObject({ status: 'RUNNING' });
    await handle.skipStep('hung');
    await reaches(handle.runId, 'PAUSED');
    await handle.resume();
    expect(await handle.result(END)).toEqual([undefined, 'after']);
  });

  it('while its run is being cancelled: the code gets the outcome, and then learns of the cancel', async () => {
    const hung = stuck('hung');
    const seen: unknown[] = [];
    const handle = await started(async (ctx) => {
      seen.push(await ctx.step('hung', hung.body));
      await ctx.step('never', () => 'never');
    });
    await isRecorded(handle.runId, 'hung');
    await handle.cancel();
    await until('the body to be asked to stop', () => hung.state.aborted !== undefined);
    await handle.completeStep('hung', 'in time');
    await reaches(handle.runId, 'CANCELLED');
    expect(seen).toEqual(['in time']);
    expect(await stepOf(handle.runId, 'hung')).toMatchObject({ status: StepStatus.COMPLETED });
  });

  it('with plain JSON, for workers whose codec encrypts: who ends it needs no key', async () => {
    const codec = aesGcmCodec({ keys: { k: Buffer.alloc(32, 1) }, activeKey: 'k' });
    const hung = stuck('hung');
    const handle = await started(async (ctx) => ctx.step('hung', hung.body), { codec });
    await isRecorded(handle.runId, 'hung');
    await handle.completeStep('hung', { plain: true });
    const reader = new Client({ connection: perdure.connection, codec });
    expect(await reader.handle(handle.runId).result(END)).toEqual({ plain: true });
  });

  it('at the moment at which its body ends: one of the two was first, and the code sees that one only', async () => {
    const COUNT = 60;
    const seen = new Map<number, unknown[]>();
    const gates = Array.from({ length: COUNT }, (_, n) => stuck(String(n)));
    const handle = await started(async (ctx) => {
      const results = await Promise.all(
        gates.map(async ({ body }, n) => {
          const result = await ctx.step(`s${n}`, body);
          seen.set(n, [...(seen.get(n) ?? []), result]);
          return result;
        }),
      );
      await ctx.waitForSignal('replayed');
      return results;
    });
    await until('the bodies', async () => {
      const { steps } = await perdure.workflows.getHistory({ runId: handle.runId, pageSize: 1_000 });
      return steps.length === COUNT;
    });
    const outcomes = await Promise.all(
      gates.map(async ({ state }, n) => {
        if (n % 2 === 0) state.release();
        const ended = handle.completeStep(`s${n}`, 'by hand').then(
          () => 'by hand',
          (error: { reason?: string }) => (error.reason === 'STEP_ENDED' ? `${n} itself` : error),
        );
        if (n % 2 === 1) state.release();
        return ended;
      }),
    );
    await handle.signal('replayed');
    expect(await handle.result(END)).toEqual(outcomes);
    for (const [n, values] of seen) expect(new Set(values)).toEqual(new Set([outcomes[n]]));
    expect(gates.every(({ state }) => state.calls === 1)).toBe(true);
  });

  it('is refused when its outcome is recorded, when the code has not requested it, and when the run has a result', async () => {
    const handle = await started(async (ctx) => {
      await ctx.step('done', () => 1);
      return ctx.waitForSignal('end');
    });
    await reaches(handle.runId, 'WAITING');
    expect((await refusal(handle.completeStep('done', 2))).reason).toBe('STEP_ENDED');
    expect((await refusal(handle.skipStep('later'))).reason).toBe('STEP_NOT_FOUND');
    const named = perdure.client.completeStep({ workflowId: handle.workflowId }, 'end', 'by workflow id');
    await named;
    expect(await handle.result(END)).toBe('by workflow id');
    const refused = await refusal(handle.skipStep('end'));
    expect(refused).toMatchObject({ reason: 'WRONG_RUN_STATE', message: expect.stringMatching(/COMPLETED/) });
    expect((await refusal(perdure.client.handle(uuid()).skipStep('s'))).reason).toBe('RUN_NOT_FOUND');
    await expect(handle.skipStep('end', { because: 'x' } as never)).rejects.toThrow(/because/);
  });
});
