import { StepStatus, WorkerService } from '@perdure/proto';
import { type Connection, RpcError, type StepContext, type WorkflowContext, workflow } from '@perdure/worker-sdk';
import { withService } from '@perdure/worker-sdk/testing';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countCalls } from '../support/counted-calls.js';
import { gate } from '../support/held-answers.js';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

type Call = (request: { readonly runId: string; readonly stepId?: string }, options?: object) => Promise<unknown>;

const lazily = { record: 'lazily' } as const;

describe('a result that the code is given before it is recorded', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, reclaimBackoffMs: 0, maxReclaimBackoffMs: 0 } });
  });
  afterAll(() => perdure.stop());

  const newQueue = () => `q-${uuid()}`;
  const historyOf = async (runId: string) =>
    (await perdure.workflows.getHistory({ runId })).steps.map(
      ({ stepId, attemptNumber, status }) => `${stepId}/${attemptNumber} ${StepStatus[status]}`,
    );
  /** The worker's connection; `before` is called when a result is about to be recorded, alone or with the end of its run. */
  const recording = (before: (runId: string, method: string) => Promise<void>): Connection =>
    withService(perdure.connection, (service) => {
      const calls = perdure.connection.service(service);
      if (service !== (WorkerService as never)) return calls;
      const real = calls as unknown as Record<'completeStep' | 'completeWorkflow', Call>;
      const recorded = (method: 'completeStep' | 'completeWorkflow'): Call => {
        return async (request, options) => {
          await before(request.runId, method);
          return real[method](request, options);
        };
      };
      return { ...calls, completeStep: recorded('completeStep'), completeWorkflow: recorded('completeWorkflow') };
    });
  const loseLease = (runId: string) =>
    perdure.database.sql`update perdure.workflow_runs set lease_expires_at = perdure.clock() - interval '1 s'
      where run_id = ${runId} and status = 'RUNNING'`;

  it('is recorded with the end of the run, once the code has returned after this step before', async () => {
    const taskQueue = newQueue();
    const counted = countCalls(perdure.connection);
    const definition = workflow('two', async (ctx) => {
      const one = await ctx.step('one', () => 1);
      const two = await ctx.step('two', async () => 2);
      ctx.log.info('a line does not separate them');
      return one + two;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], connection: counted.connection });
    const calls = () => [counted.calls.get('completeStep'), counted.calls.get('completeWorkflow')];
    expect(await perdure.client.execute(definition, { taskQueue })).toBe(3);
    expect(calls()).toEqual([2, 1]);
    const handle = await perdure.client.start(definition, { taskQueue });
    expect(await handle.result({ timeout: '20s' })).toBe(3);
    expect(calls()).toEqual([3, 2]);
    expect(await historyOf(handle.runId)).toEqual(['one/1 COMPLETED', 'two/1 COMPLETED']);
  });

  it('is recorded alone when the code does not return after it, and the next step waits for that', async () => {
    const taskQueue = newQueue();
    const order: string[] = [];
    let more = 0;
    const definition = workflow('loop', async (ctx) => {
      for (let n = 0; n <= more; n++) await ctx.step('turn', () => order.push(`turn ${n}`));
    });
    const connection = recording(async (_, method) => void order.push(method));
    await perdure.startWorker({ taskQueue, workflows: [definition], connection });
    await perdure.client.execute(definition, { taskQueue });
    await perdure.client.execute(definition, { taskQueue });
    more = 1;
    await perdure.client.execute(definition, { taskQueue });
    const first = ['turn 0', 'completeStep', 'completeWorkflow'];
    const second = ['turn 0', 'completeWorkflow'];
    const third = ['turn 0', 'completeStep', 'turn 1', 'completeStep', 'completeWorkflow'];
    expect(order).toEqual([...first, ...second, ...third]);
  });

  it('of lazy steps is recorded in one go before the next body that is not lazy', async () => {
    const taskQueue = newQueue();
    const order: string[] = [];
    const definition = workflow('reads', async (ctx) => {
      let sum = 0;
      for (const n of [1, 2, 3]) sum += await ctx.step(`read ${n}`, async () => order.push('read'), lazily);
      await ctx.step('write', () => order.push(`write ${sum}`));
      return sum;
    });
    const connection = recording(async (_, method) => void order.push(method));
    await perdure.startWorker({ taskQueue, workflows: [definition], connection });
    const handle = await perdure.client.start(definition, { taskQueue });
    expect(await handle.result({ timeout: '20s' })).toBe(6);
    expect(order).toEqual([
      ...['read', 'read', 'read', 'completeStep', 'completeStep', 'completeStep', 'write 6'],
      ...['completeStep', 'completeWorkflow'],
    ]);
    expect(await historyOf(handle.runId)).toEqual(
      ['read 1', 'read 2', 'read 3', 'write'].map((step) => `${step}/1 COMPLETED`),
    );
  });

  it('leaves nothing when its worker is lost before the commit: no body has begun, no line is logged', async () => {
    const taskQueue = newQueue();
    const lines: string[] = [];
    const logger = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line).msg) });
    const seen: string[][] = [];
    const bodies: string[] = [];
    const isLost = gate();
    const definition = workflow('lost', async (ctx) => {
      const mine: string[] = [];
      seen.push(mine);
      const drawn = await ctx.step('draw', () => `draw ${bodies.push('draw')}`, lazily);
      mine.push(drawn);
      ctx.log.info(`saw ${drawn}`);
      await ctx.step('use', () => bodies.push(`use ${drawn}`));
      return drawn;
    });
    let isFirst = true;
    const dying = recording(async (runId) => {
      if (!isFirst) return;
      isFirst = false;
      await until('the code to have seen the result', () => seen[0]?.length === 1);
      await loseLease(runId);
      isLost.open();
      throw new RpcError('FAILED_PRECONDITION', 'The worker is dead.', { reason: 'LEASE_LOST' });
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], connection: dying, logger });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isLost.opened;
    expect(await handle.result({ timeout: '20s' })).toBe('draw 2');
    expect(seen).toEqual([['draw 1'], ['draw 2']]);
    expect(bodies).toEqual(['draw', 'draw', 'use draw 2']);
    expect(lines.filter((line) => line?.startsWith('saw'))).toEqual(['saw draw 2']);
  });

  for (const [what, steps] of [
    ['with the end of the run', []],
    ['before another step', ['next']],
  ] as const) {
    it(`is taken back when a cancel was requested before it was recorded ${what}`, async () => {
      const taskQueue = newQueue();
      const seen: string[][] = [];
      const bodies: string[] = [];
      const definition = workflow('cancelled', async (ctx) => {
        const mine: string[] = [];
        seen.push(mine);
        try {
          mine.push(await ctx.step('work', () => `work ${bodies.push('work')}`));
          for (const name of steps) if (seen.length > 1) await ctx.step(name, () => bodies.push(name));
        } catch (error) {
          mine.push((error as Error).name);
          throw error;
        }
      });
      let isCancelling = false;
      const cancelling = recording(async (runId) => {
        if (!isCancelling) return;
        isCancelling = false;
        await perdure.client.cancel({ runId });
      });
      await perdure.startWorker({ taskQueue, workflows: [definition], connection: cancelling });
      // The worker learns that the code returns after this step.
      await perdure.client.execute(definition, { taskQueue });
      isCancelling = true;
      const handle = await perdure.client.start(definition, { taskQueue });
      await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ name: 'WorkflowCancelledError' });
      expect(seen).toEqual([['work 1'], ['work 2'], ['CancelledError']]);
      expect(bodies).toEqual(['work', 'work']);
      expect(await historyOf(handle.runId)).toEqual(['work/1 CANCELLED']);
    });
  }

  for (const [what, isLazy] of [
    ['with the end of the run', false],
    ['before another step', true],
  ] as const) {
    it(`is taken back when the run was paused before it was recorded ${what}, and is drawn again after the resume`, async () => {
      const taskQueue = newQueue();
      const seen: string[][] = [];
      const bodies: string[] = [];
      const definition = workflow('paused', async (ctx) => {
        const mine: string[] = [];
        seen.push(mine);
        mine.push(await ctx.step('work', () => `work ${bodies.push('work')}`, isLazy ? lazily : {}));
        if (isLazy) await ctx.step('next', () => bodies.push('next'));
      });
      let isPausing = false;
      const pausing = recording(async (runId) => {
        if (!isPausing) return;
        isPausing = false;
        await perdure.client.pause({ runId });
      });
      await perdure.startWorker({ taskQueue, workflows: [definition], connection: pausing });
      // The worker learns that the code returns after this step.
      await perdure.client.execute(definition, { taskQueue });
      seen.length = 0;
      bodies.length = 0;
      isPausing = true;
      const handle = await perdure.client.start(definition, { taskQueue });
      await until('the run to be given back', async () => (await handle.get()).status === 'PAUSED');
      expect(await historyOf(handle.runId)).toEqual([]);
      await handle.resume();
      await handle.result({ timeout: '20s' });
      expect(seen).toEqual([['work 1'], ['work 2']]);
      expect(bodies).toEqual(['work', 'work', ...(isLazy ? ['next'] : [])]);
      const steps = isLazy ? ['work', 'next'] : ['work'];
      expect(await historyOf(handle.runId)).toEqual(steps.map((step) => `${step}/1 COMPLETED`));
    });
  }

  it('does not keep bodies that are under way from being recorded when it is taken back', async () => {
    const taskQueue = newQueue();
    const definition = workflow('beside', async (ctx) => {
      // It ends, with a result, when it is told to stop.
      const untilStopped = ({ signal }: StepContext) =>
        new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      const pay = ctx.step('pay', untilStopped, { begin: 'durable', retry: { maxAttempts: 1 } });
      await ctx.step('read', () => 1, lazily);
      await ctx.step('next', () => undefined);
      await pay;
    });
    let isFirst = true;
    const cancelling = recording(async (runId) => {
      if (!isFirst) return;
      isFirst = false;
      await until('the payment to have begun', async () => (await historyOf(runId)).includes('pay/1 RUNNING'));
      await perdure.client.cancel({ runId });
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], connection: cancelling });
    const handle = await perdure.client.start(definition, { taskQueue });
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ name: 'WorkflowCancelledError' });
    expect(await historyOf(handle.runId)).toContain('pay/1 COMPLETED');
  });

  it('shows the code the same times in every replay', async () => {
    const taskQueue = newQueue();
    const times: number[][] = [];
    const isReplayed = gate();
    const now = (ctx: WorkflowContext) => ctx.now().getTime();
    const definition = workflow('clock', async (ctx) => {
      const mine = [now(ctx)];
      for (let n = 0; n < 3; n++) {
        await ctx.step('eager', () => n);
        mine.push(now(ctx));
        await perdure.database.advanceClock(1_000);
        await ctx.step('lazy', () => n, lazily);
        mine.push(now(ctx));
      }
      times.push(mine);
      if (times.length === 1) await ctx.step('stop', () => isReplayed.opened);
      else await ctx.step('stop', () => undefined);
    });
    const first = await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('the last step to have begun', async () => (await historyOf(handle.runId)).length === 7);
    await first.shutdown(0);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    await handle.result({ timeout: '20s' });
    isReplayed.open();
    expect(times).toHaveLength(2);
    expect(times[1]).toEqual(times[0]);
    const [start, ...others] = times[0] as number[];
    const [eager1, lazy1, eager2, lazy2, eager3, lazy3] = others as [number, number, number, number, number, number];
    expect([lazy1, lazy2, lazy3]).toEqual([eager1, eager2, eager3]);
    expect(eager3 - eager1).toBeGreaterThanOrEqual(2_000);
    expect(eager1).toBeGreaterThanOrEqual(start as number);
  });

  it('is never given early to code that reads its clock after its last step', async () => {
    const taskQueue = newQueue();
    const counted = countCalls(perdure.connection);
    let readsClock = false;
    const definition = workflow('late clock', async (ctx) => {
      await ctx.step('work', () => 1);
      return readsClock ? ctx.now().getTime() : 0;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], connection: counted.connection });
    const finishedAt = async (runId: string) => {
      const { steps } = await perdure.workflows.getHistory({ runId });
      return Number(steps[0]?.finishedAt?.seconds ?? 0n) * 1_000 + Math.trunc((steps[0]?.finishedAt?.nanos ?? 0) / 1e6);
    };
    await perdure.client.execute(definition, { taskQueue });
    readsClock = true;
    // The code has been told before it asked: it is replayed. From then on the worker knows.
    for (const ends of [2, 3]) {
      const handle = await perdure.client.start(definition, { taskQueue });
      expect(await handle.result({ timeout: '20s' })).toBe(await finishedAt(handle.runId));
      expect(counted.calls.get('completeWorkflow')).toBe(ends);
      expect(counted.calls.get('completeStep')).toBe(ends);
    }
    expect(counted.calls.get('releaseRun')).toBe(1);
  });

  it('is not possible for steps whose beginning must be recorded', async () => {
    const taskQueue = newQueue();
    const errors: string[] = [];
    const definition = workflow('wrong', async (ctx) => {
      for (const options of [
        { record: 'lazily', begin: 'durable' },
        { record: 'lazily', heartbeatTimeout: '1s' },
        { record: 'later' },
      ] as never[])
        await ctx.step('wrong', () => 1, options).catch((error: Error) => errors.push(error.message));
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    await perdure.client.execute(definition, { taskQueue });
    expect(errors).toEqual([
      "A step cannot have both begin: 'durable' and record: 'lazily'.",
      "A step with record: 'lazily' cannot have a heartbeatTimeout: its beginning is not recorded.",
      "record must be 'at once' or 'lazily'; got \"later\".",
    ]);
  });
});
