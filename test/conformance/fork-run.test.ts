import { RunActionKind, RunOrigin, StepStatus } from '@perdure/proto';
import { signal, TerminalError, update, type Workflow, type WorkflowContext, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal } from '../support/raw-worker.js';
import { until } from '../support/until.js';

const go = signal<string>('go');
const add = update<number, number>('add');
const END = { timeout: '20s' } as const;
/** Larger than what is copied with a row. */
const large = (name: string) => name.repeat(2_000);

describe('forking a run', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  const bodies: string[] = [];
  const body =
    (name: string, value: unknown = name) =>
    () => {
      bodies.push(name);
      return value;
    };
  const started = async <Output>(code: (ctx: WorkflowContext, input: string) => Promise<Output>) => {
    bodies.length = 0;
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('w', code) as Workflow<string, Output>;
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    return perdure.client.start(definition, 'in', { taskQueue, workflowId: `w-${taskQueue}` });
  };
  const reaches = (runId: string, status: string) =>
    until(`the run to be ${status}`, async () => (await perdure.client.handle(runId).get()).status === status);

  it('executes the step and what follows again, and nothing before it; both runs know each other', async () => {
    const handle = await started(async (ctx, input) => [
      input,
      await ctx.step('a', body('a', large('a'))),
      await ctx.step('b', body('b', { b: 1 })),
      await ctx.step('c', body('c')),
    ]);
    const result = await handle.result(END);
    bodies.length = 0;
    const fork = await handle.fork('c', { actor: 'ada', reason: 'the label was wrong' });
    expect(fork.runId).not.toBe(handle.runId);
    expect(fork.workflowId).toBe(`${handle.workflowId}/fork-1`);
    expect(await fork.result(END)).toEqual(result);
    expect(bodies).toEqual(['c']);
    const { run } = await perdure.workflows.getRun({ runId: fork.runId });
    expect(run).toMatchObject({ origin: RunOrigin.FORK, originRunId: handle.runId });
    const { actions } = await perdure.workflows.describeRun({ runId: handle.runId });
    const action = {
      kind: RunActionKind.FORK,
      actor: 'ada',
      reason: 'the label was wrong',
      otherRunId: fork.runId,
      stepId: 'c',
    };
    expect(actions).toMatchObject([action]);
    expect((await perdure.workflows.getRunTree({ runId: handle.runId })).forks).toMatchObject([action]);
    const { steps } = await perdure.workflows.getHistory({ runId: fork.runId, includePayloads: true });
    expect(steps.map(({ stepId, status, attemptNumber }) => [stepId, StepStatus[status], attemptNumber])).toEqual(
      ['a', 'b', 'c'].map((stepId) => [stepId, 'COMPLETED', 1]),
    );
    expect(steps[0]?.output?.data.length).toBeGreaterThan(1_900);

    await handle.delete();
    const again = await fork.fork('b', { input: 'other', workflowId: handle.workflowId });
    expect(await again.result(END)).toEqual(['other', large('a'), { b: 1 }, 'c']);
    await fork.delete();
    expect((await perdure.workflows.getStepAttempt({ runId: again.runId, stepId: 'a' })).attempt?.output).toEqual(
      steps[0]?.output,
    );
    await again.delete();
    expect(await perdure.database.sql`select 1 from perdure.step_runs where run_id = ${handle.runId}`).toEqual([]);
  });

  it('of a run that has FAILED leaves it as it is', async () => {
    let isBroken = true;
    const handle = await started(async (ctx) => {
      await ctx.step('kept', body('kept'));
      return ctx.step('breaks', () => {
        bodies.push('breaks');
        if (isBroken) throw new TerminalError('broken');
        return 'repaired';
      });
    });
    await handle.result(END).catch(() => undefined);
    isBroken = false;
    const fork = await handle.fork('breaks');
    expect(await fork.result(END)).toBe('repaired');
    expect(bodies).toEqual(['kept', 'breaks', 'breaks']);
    expect(await handle.get()).toMatchObject({ status: 'FAILED' });
  });

  it('of a live run: both continue, each with its own signals, timers and children', async () => {
    const child = workflow('w', async () => 'child');
    const handle = await started(async (ctx) => {
      const first = await ctx.waitForSignal(go);
      const seen = await ctx.step('see', body('see'));
      const [second, of] = await Promise.all([
        ctx.waitForSignal(go),
        ctx
          .child(child, undefined, { name: 'child', taskQueue: 'nobody', parentClose: 'terminate' })
          .catch(() => 'closed'),
        ctx.sleep('nap', '1h'),
      ]);
      return [first, seen, second, of];
    });
    await handle.signal(go, 'one');
    await reaches(handle.runId, 'WAITING');
    await until(
      'the child',
      async () => (await perdure.workflows.getRunTree({ runId: handle.runId })).nodes.length === 2,
    );
    const fork = await handle.fork('go#2');
    await reaches(fork.runId, 'WAITING');
    await until(
      'its child',
      async () => (await perdure.workflows.getRunTree({ runId: fork.runId })).nodes.length === 2,
    );
    await fork.signal(go, 'two of the fork');
    for (const stepId of ['nap', 'child']) await fork.skipStep(stepId);
    expect(await fork.result(END)).toEqual(['one', 'see', 'two of the fork', undefined]);
    expect(bodies).toEqual(['see']);
    await handle.signal(go, 'two');
    for (const stepId of ['nap', 'child']) await handle.skipStep(stepId);
    expect(await handle.result(END)).toEqual(['one', 'see', 'two', undefined]);
  });

  it('draws the same random numbers, and sees the same time and updates, up to the step', async () => {
    const handle = await started(async (ctx) => {
      let sum = 0;
      ctx.handle(add, (n) => {
        sum += n;
        return sum;
      });
      const before = [ctx.random(), ctx.uuid(), ctx.now().getTime()];
      await ctx.waitForSignal(go);
      const between = [ctx.random(), ctx.now().getTime(), sum];
      await ctx.step('last', body('last'));
      return { before, between, key: ctx.run.runId };
    });
    await reaches(handle.runId, 'WAITING');
    expect(await handle.update(add, 2)).toBe(2);
    expect(await handle.update(add, 3)).toBe(5);
    await handle.signal(go, 'x');
    const origin = await handle.result(END);
    const fork = await (await handle.fork('last')).result(END);
    expect({ ...fork, key: '' }).toEqual({ ...origin, key: '' });
    expect(origin.between[2]).toBe(5);
    expect(fork.key).not.toBe(origin.key);
  });

  it('may be retried, and a retry of the run goes back to before the fork', async () => {
    let failures = 0;
    const code = async (ctx: WorkflowContext) => {
      const kept = await ctx.step('kept', body('kept', large('k')));
      const got = await ctx.waitForSignal(go);
      await ctx.step('breaks', () => {
        bodies.push('breaks');
        if (failures++ < 2) throw new TerminalError('broken');
      });
      return [(kept as string).length, got.length];
    };
    const handle = await started(code);
    await handle.signal(go, large('s'));
    await handle.result(END).catch(() => undefined);
    const fork = await handle.fork('breaks');
    expect(await fork.result(END).catch((error: Error) => error.message)).toMatch(/broken/);
    await handle.delete();
    await fork.retry();
    expect(await fork.result(END)).toEqual([2_000, 2_000]);
    expect(bodies).toEqual(['kept', 'breaks', 'breaks', 'breaks']);
  });

  it('is refused from a step that is not recorded, and with a workflow id that is in use', async () => {
    const handle = await started(async (ctx) => ctx.waitForSignal(go));
    await reaches(handle.runId, 'WAITING');
    expect(await refusal(handle.fork('later'))).toMatchObject({ reason: 'STEP_NOT_FOUND' });
    const refused = await refusal(handle.fork('go', { workflowId: handle.workflowId }));
    expect(refused).toMatchObject({
      reason: 'WORKFLOW_ID_IN_USE',
      message: expect.stringMatching(/cannot be forked: run .+ is open\. Nothing was started/),
    });
    await expect(handle.fork('go', { taskQueue: 'x' } as never)).rejects.toThrow(/taskQueue/);
    const requestId = uuid();
    const [one, other] = [
      await perdure.client.fork({ workflowId: handle.workflowId }, 'go', { requestId }),
      await perdure.client.fork({ workflowId: handle.workflowId }, 'go', { requestId }),
    ];
    expect([one.created, other.created, other.runId]).toEqual([true, false, one.runId]);
    for (const run of [handle, one]) await run.terminate();
  });

  it('of a run whose compensations have run is refused', async () => {
    const handle = await started(async (ctx) => {
      await ctx.step('book', body('book'));
      ctx.onCompensate('unbook', body('unbook'));
      throw new TerminalError('no');
    });
    await handle.result(END).catch(() => undefined);
    const refused = await refusal(handle.fork('book'));
    expect(refused).toMatchObject({ reason: 'WRONG_RUN_STATE', message: expect.stringMatching(/undone by its comp/) });
  });
});
