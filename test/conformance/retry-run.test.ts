import { RunActionKind, RunOrigin } from '@perdure/proto';
import {
  signal,
  TerminalError,
  UpdateRefusedError,
  update,
  type Workflow,
  WorkflowCancelledError,
  type WorkflowContext,
  WorkflowFailedError,
  workflow,
} from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal } from '../support/raw-worker.js';
import { endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

const go = signal<string>('go');

describe('retrying a run that has ended', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
    await perdure.admin.createNamespace({ name: 'other' });
  });
  afterAll(() => perdure.stop());

  let isBroken = true;
  const bodies: string[] = [];
  const body = (name: string) => () => {
    bodies.push(name);
    return name;
  };
  const breaks = (name: string) => () => {
    bodies.push(name);
    if (isBroken) throw new TerminalError(`${name} broke`);
    return name;
  };
  const started = async <Output>(code: (ctx: WorkflowContext) => Promise<Output>, more: object = {}) => {
    isBroken = true;
    bodies.length = 0;
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('w', async (ctx, _: undefined) => code(ctx)) as Workflow<undefined, Output>;
    const worker = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue, ...more });
    return { handle, worker, taskQueue, definition };
  };
  const failed = async (handle: { result(options: object): Promise<unknown> }) =>
    expect(await handle.result({ timeout: '20s' }).catch((error: unknown) => error)).toBeInstanceOf(
      WorkflowFailedError,
    );
  const reaches = (runId: string, status: string) =>
    until(`the run to be ${status}`, async () => (await perdure.client.handle(runId).get()).status === status);
  const history = async (runId: string) =>
    (await perdure.workflows.getHistory({ runId })).steps.map(
      ({ stepId, attemptNumber, isCut }) => `${stepId}/${attemptNumber}${isCut ? ' cut' : ''}`,
    );

  it('continues from the step that failed: earlier steps are kept, later ones are taken back, and all stay in the history', async () => {
    const { handle } = await started(async (ctx) => {
      const kept = await ctx.step('kept', body('kept'));
      try {
        return [kept, await ctx.step('fails', breaks('fails')), await ctx.step('later', body('later'))];
      } catch (error) {
        await ctx.step('clean-up', body('clean-up'));
        throw error;
      }
    });
    await failed(handle);
    expect(bodies).toEqual(['kept', 'fails', 'clean-up']);
    isBroken = false;
    await handle.retry({ reason: 'it is repaired', actor: 'ada' });
    expect(await handle.result({ timeout: '20s' })).toEqual(['kept', 'fails', 'later']);
    expect(bodies).toEqual(['kept', 'fails', 'clean-up', 'fails', 'later']);
    expect(await history(handle.runId)).toEqual(['kept/1', 'fails/1', 'fails/2', 'clean-up/1 cut', 'later/1']);
    expect(await handle.get()).toMatchObject({ status: 'COMPLETED', attempt: 2, error: undefined });
    const [action] = await perdure.database.sql`select * from perdure.run_actions where run_id = ${handle.runId}`;
    expect(action).toMatchObject({
      kind: 'RETRY',
      actor: 'ada',
      reason: 'it is repaired',
      detail: { status: 'FAILED', failure: { message: 'fails broke' } },
    });
    const { actions, run } = await perdure.workflows.describeRun({ runId: handle.runId });
    expect(actions).toMatchObject([
      { actor: 'ada', reason: 'it is repaired', previousFailure: { message: 'fails broke' } },
    ]);
    expect(run?.retriedAt).toEqual(actions[0]?.actedAt);
  });

  it('may fail again, and be retried again', async () => {
    const { handle } = await started(async (ctx) => ctx.step('fails', breaks('fails')));
    for (let attempt = 1; attempt <= 3; attempt++) {
      await failed(handle);
      expect(bodies).toHaveLength(attempt);
      if (attempt === 3) isBroken = false;
      await handle.retry();
    }
    expect(await handle.result({ timeout: '20s' })).toBe('fails');
  });

  it('keeps what parallel branches have done before the failure was seen', async () => {
    const { handle } = await started(async (ctx) => {
      const branches = ['a', 'b', 'c'].map((name) => ctx.step(name, body(name)));
      await Promise.all(branches);
      return Promise.all([ctx.step('d', body('d')), ctx.step('fails', breaks('fails'))]);
    });
    await failed(handle);
    isBroken = false;
    await handle.retry();
    expect(await handle.result({ timeout: '20s' })).toEqual(['d', 'fails']);
    expect(bodies.filter((name) => name !== 'fails').sort()).toEqual(['a', 'b', 'c', 'd']);
  });

  it('that was terminated in a body, asleep or waiting: bodies are executed again, timers keep their time, waits begin again', async () => {
    let release: () => void = () => undefined;
    const { handle } = await started(async (ctx) => {
      const nap = ctx.sleep('nap', '1h');
      const held = ctx.step('held', async () => {
        bodies.push('held');
        if (isBroken)
          await new Promise<void>((resolve) => {
            release = resolve;
          });
        return 'held';
      });
      const got = ctx.waitForSignal(go);
      return [await held, await got, await nap.then(() => 'slept')];
    });
    await until('the body to begin', () => bodies.length === 1);
    const firesAt = async () => {
      const [nap] = await perdure.database.sql<{ fires_at: Date }[]>`
        select fires_at from perdure.step_runs where run_id = ${handle.runId} and step_id = 'nap' and attempt_key = 0`;
      return nap?.fires_at;
    };
    await until('the timer', async () => (await firesAt()) !== undefined);
    const before = await firesAt();
    await handle.terminate('enough');
    isBroken = false;
    await handle.retry();
    release();
    await reaches(handle.runId, 'WAITING');
    await handle.signal(go, 'now');
    await reaches(handle.runId, 'SLEEPING');
    expect(await firesAt()).toEqual(before);
    await handle.terminate();
    await handle.retry();
    await reaches(handle.runId, 'SLEEPING');
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '20s' })).toEqual(['held', 'now', 'slept']);
    expect(bodies).toEqual(['held', 'held']);
  });

  it('that was cancelled: the cancel request is taken back, with the clean-up that followed it', async () => {
    const { handle } = await started(async (ctx) => {
      await ctx.step('before', body('before'));
      try {
        const [got] = await Promise.all([ctx.waitForSignal(go), ctx.sleep('nap', '1h').then(() => 'slept')]);
        return got;
      } catch (error) {
        await ctx.uncancellable(() => ctx.step('clean-up', body('clean-up')));
        throw error;
      }
    });
    await reaches(handle.runId, 'WAITING');
    await handle.cancel('not needed');
    await expect(handle.result({ timeout: '20s' })).rejects.toBeInstanceOf(WorkflowCancelledError);
    expect(bodies).toEqual(['before', 'clean-up']);
    await handle.retry();
    await reaches(handle.runId, 'WAITING');
    expect((await handle.get()).cancelRequestedAt).toBeUndefined();
    await handle.signal(go, 'on');
    await reaches(handle.runId, 'SLEEPING');
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '20s' })).toBe('on');
    expect(bodies).toEqual(['before', 'clean-up']);
    expect(await history(handle.runId)).toContain('clean-up/1 cut');
  });

  it('that failed while it cleaned up after a cancel goes back to before the cancel', async () => {
    const { handle } = await started(async (ctx) => {
      try {
        return await ctx.waitForSignal(go);
      } catch {
        return await ctx.uncancellable(() => ctx.step('clean-up', breaks('clean-up')));
      }
    });
    await reaches(handle.runId, 'WAITING');
    await handle.cancel();
    await failed(handle);
    await handle.retry();
    await reaches(handle.runId, 'WAITING');
    await handle.signal(go, 'on');
    expect(await handle.result({ timeout: '20s' })).toBe('on');
    expect(await history(handle.runId)).toEqual(['go/1 cut', 'go/2', 'clean-up/1 cut']);
  });

  it('that was terminated while it cleaned up after a cancel goes back to before the cancel', async () => {
    const { handle } = await started(async (ctx) => {
      await ctx.step('before', body('before'));
      try {
        return await ctx.waitForSignal(go);
      } catch {
        await ctx.uncancellable(() => ctx.step('clean-up', body('clean-up')));
        return await ctx.uncancellable(() => ctx.waitForSignal(signal<string>('never')));
      }
    });
    await reaches(handle.runId, 'WAITING');
    await handle.cancel();
    await until('the clean-up', () => bodies.includes('clean-up'));
    await reaches(handle.runId, 'WAITING');
    await handle.terminate();
    await handle.retry();
    await reaches(handle.runId, 'WAITING');
    await handle.signal(go, 'on');
    expect(await handle.result({ timeout: '20s' })).toBe('on');
    expect(bodies).toEqual(['before', 'clean-up']);
  });

  it('counts its timeouts and its retries anew', async () => {
    const { handle } = await started(async (ctx) => ctx.waitForSignal(go), { runTimeout: '1h' });
    await reaches(handle.runId, 'WAITING');
    await perdure.database.advanceClock(3_700_000);
    await failed(handle);
    await handle.retry();
    await reaches(handle.runId, 'WAITING');
    const [run] = await perdure.database.sql<{ left: number }[]>`
      select extract(epoch from run_deadline_at - perdure.clock())::float8 as left from perdure.workflow_runs where run_id = ${handle.runId}`;
    expect(run?.left).toBeGreaterThan(3_400);
    expect(run?.left).toBeLessThanOrEqual(3_600);
    await handle.signal(go, 'in time');
    expect(await handle.result({ timeout: '20s' })).toBe('in time');
  });

  it('executes no body again that is executed at most once', async () => {
    const { handle } = await started(async (ctx) => {
      await ctx.step('fails', breaks('fails')).catch(async (error: unknown) => {
        await ctx.step('charge', body('charge'), { begin: 'durable', retry: { maxAttempts: 1 } });
        throw error;
      });
      return ctx.step('charge', body('charge'), { begin: 'durable', retry: { maxAttempts: 1 } });
    });
    await failed(handle);
    isBroken = false;
    await handle.retry();
    expect(await handle.result({ timeout: '20s' })).toBe('charge');
    expect(bodies).toEqual(['fails', 'charge', 'fails']);
  });

  it('starts children again that its end has closed; as a child it continues without its parent', async () => {
    const child = workflow('child', async (ctx, _: undefined) => ctx.waitForSignal(go));
    const taskQueue = `q-${uuid()}`;
    const parent = workflow('parent', async (ctx, _: undefined) => ctx.child(child));
    await perdure.startWorker({ taskQueue, workflows: [parent, child] });
    const handle = await perdure.client.start(parent, { taskQueue, workflowId: `p ${taskQueue}` });
    const children = async () => (await perdure.workflows.listRuns({ parentRunId: handle.runId })).runs;
    await until('the child', async () => (await children()).length === 1);
    await reaches(handle.runId, 'WAITING');
    await handle.terminate();
    await handle.retry();
    await until('another child', async () => (await children()).length === 2);
    // Their ids are derived from that of the parent, so they are in no order.
    const [first, second] = (await children()).sort((a, b) => a.workflowId.length - b.workflowId.length);
    await reaches(first?.runId ?? '', 'CANCELLED');
    await perdure.client.handle(second?.runId ?? '').terminate();
    await failed(handle);
    await perdure.client.retry({ runId: second?.runId ?? '' });
    await reaches(second?.runId ?? '', 'WAITING');
    await perdure.client.handle(second?.runId ?? '').signal(go, 'alone');
    expect(await perdure.client.handle(second?.runId ?? '').result({ timeout: '20s' })).toBe('alone');
    expect((await handle.get()).status).toBe('FAILED');
  });

  it('does not carry out updates whose senders were told that it had ended', async () => {
    const add = update<number, number>('add');
    const handled: number[] = [];
    const { handle, worker } = await started(async (ctx) => {
      await ctx.waitForSignal(go);
      ctx.handle(add, async (n) => {
        handled.push(n);
        return n;
      });
      return ctx.waitForSignal(signal<string>('done'));
    });
    await reaches(handle.runId, 'WAITING');
    const sent = { requestId: uuid(), timeout: '20s' as const };
    const answer = handle.update(add, 1, sent).catch((error: unknown) => error);
    await until('the update to be kept', async () => {
      const [row] = await perdure.database
        .sql`select count(*)::int as n from perdure.run_updates where run_id = ${handle.runId}`;
      return row?.n === 1;
    });
    await handle.terminate();
    expect(await answer).toMatchObject({ reason: 'RUN_CLOSED' });
    await handle.retry();
    await handle.signal(go, 'on');
    expect(await handle.update(add, 2, { timeout: '20s' })).toBe(2);
    expect(await handle.update(add, 1, sent).catch((error: unknown) => error)).toBeInstanceOf(UpdateRefusedError);
    expect(handled).toEqual([2]);
    await handle.terminate();
    await worker.shutdown(0);
  });

  it('is refused while another run with its workflow id is open', async () => {
    const workflowId = uuid();
    const { handle, definition } = await started(async (ctx) => ctx.step('fails', breaks('fails')), {
      workflowId,
    });
    await failed(handle);
    const blocked = await perdure.client.start(definition, { taskQueue: `q-${uuid()}`, workflowId });
    expect(await refusal(handle.retry())).toMatchObject({
      status: 'FAILED_PRECONDITION',
      reason: 'WORKFLOW_ID_IN_USE',
      message: expect.stringContaining(blocked.runId),
    });
    await blocked.terminate();
    isBroken = false;
    await handle.retry();
    expect(await handle.result({ timeout: '20s' })).toBe('fails');
  });

  it('is refused for runs that are open or have a result, and for those of another namespace', async () => {
    const { handle } = await started(async (ctx) => ctx.waitForSignal(go));
    expect(await refusal(handle.retry())).toMatchObject({ status: 'FAILED_PRECONDITION', reason: 'WRONG_RUN_STATE' });
    await handle.signal(go, 'done');
    await handle.result({ timeout: '20s' });
    const { runId } = handle;
    expect(await refusal(handle.retry())).toMatchObject({
      reason: 'WRONG_RUN_STATE',
      message: expect.stringContaining('COMPLETED'),
    });
    for (const request of [{ runId, namespace: 'other' }, { runId: uuid() }, { workflowId: uuid() }]) {
      expect(await refusal(perdure.workflows.retryRun(request))).toMatchObject({
        status: 'NOT_FOUND',
        reason: 'RUN_NOT_FOUND',
      });
    }
    await expect(handle.retry({ why: 'x' } as never)).rejects.toThrow("'why'");
  });

  it('is no longer paused when it ended during a pause', async () => {
    const { handle } = await started(async (ctx) => ctx.waitForSignal(go));
    await reaches(handle.runId, 'WAITING');
    await handle.pause({ reason: 'the printer is on fire', actor: 'alice' });
    await handle.terminate();
    await handle.retry({ actor: 'bob' });
    await reaches(handle.runId, 'WAITING');
    expect((await perdure.workflows.getRun({ runId: handle.runId })).run?.pause).toBeUndefined();
    const { pauses } = await perdure.workflows.getHistory({ runId: handle.runId });
    expect(pauses).toMatchObject([{ pausedBy: 'alice', resumedBy: 'bob', resumedAt: expect.anything() }]);
    await handle.signal(go, 'done');
    expect(await handle.result({ timeout: '20s' })).toBe('done');
  });

  it('has the same answer when the call is repeated', async () => {
    const { handle } = await started(async (ctx) => ctx.step('fails', breaks('fails')));
    await failed(handle);
    const options = { requestId: uuid() };
    await handle.retry(options);
    await failed(handle);
    await handle.retry(options);
    expect((await handle.get()).status).toBe('FAILED');
    expect(bodies).toHaveLength(2);
  });

  it('and restarting one starts another run with the same input, which knows its origin', async () => {
    const taskQueue = `q-${uuid()}`;
    const echo = workflow('echo', async (ctx, input: Date) => ctx.step('echo', () => input));
    await perdure.startWorker({ taskQueue, workflows: [echo] });
    const input = new Date(5);
    const workflowId = uuid();
    const handle = await perdure.client.start(echo, input, { taskQueue, workflowId, runTimeout: '1h', priority: 7 });
    expect(await handle.result({ timeout: '20s' })).toEqual(input);
    const options = { reason: 'again', actor: 'ada', requestId: uuid() };
    const other = await handle.restart(options);
    expect(await other.result({ timeout: '20s' })).toEqual(input);
    expect(await handle.restart(options)).toMatchObject({ runId: other.runId, created: false });
    expect(await other.get()).toMatchObject({ workflowId, priority: 7, input });
    const { run } = await perdure.workflows.describeRun({ runId: other.runId });
    expect(run).toMatchObject({ originRunId: handle.runId, origin: RunOrigin.RESTART, workflowId });
    expect(run?.runDeadlineAt).toBeDefined();
    expect((await perdure.workflows.describeRun({ runId: handle.runId })).actions).toMatchObject([
      { kind: RunActionKind.RESTART, otherRunId: other.runId, actor: 'ada', reason: 'again' },
    ]);
  });

  it('and restarting an open one needs another workflow id', async () => {
    const { handle, worker } = await started(async (ctx) => ctx.waitForSignal(go));
    expect(await refusal(handle.restart())).toMatchObject({
      status: 'FAILED_PRECONDITION',
      reason: 'WORKFLOW_ID_IN_USE',
      message: expect.stringContaining('another workflow id'),
    });
    const other = await perdure.client.restart<string>({ runId: handle.runId }, { workflowId: uuid() });
    await other.signal(go, 'other');
    expect(await other.result({ timeout: '20s' })).toBe('other');
    expect((await handle.get()).finishedAt).toBeUndefined();
    await handle.terminate();
    await worker.shutdown(0);
  });
});
