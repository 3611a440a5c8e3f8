import { createHash } from 'node:crypto';
import { RunStatus } from '@perdure/proto';
import { type EventDefinition, event, InvalidInputError, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('events', () => {
  let perdure: TestPerdure;
  let taskQueue: string;
  /** An event of its own for each test. */
  let happened: EventDefinition<number>;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
  });
  afterAll(() => perdure.stop());
  beforeEach(() => {
    taskQueue = `q-${uuid()}`;
    happened = event<number>(`e-${uuid()}`);
  });
  const isWaiting = (runId: string) =>
    until('the run to wait', async () => (await perdure.client.handle(runId).get()).status === 'WAITING');
  const steps = async (runId: string) => (await perdure.workflows.getHistory({ runId })).steps;

  it.each([
    ['warm', 100],
    ['cold', 0],
  ])('wake every suspended run that waits for the name and key (%s)', async (_, warmRuns) => {
    const definition = workflow('waits', async (ctx, key: string | null) => {
      const got = await ctx.waitForEvent(happened, key === null ? {} : { key });
      return ctx.step('after', () => got * 2);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns });
    const handles = await Promise.all(
      ['a', 'b', null].map((key) => perdure.client.start(definition, key, { taskQueue })),
    );
    for (const { runId } of handles) await isWaiting(runId);
    const published = await perdure.client.publish(happened, 1, { key: 'a', requestId: 'r' });
    expect(published).toMatchObject({ alreadyPublished: false });
    expect(await handles[0]?.result({ timeout: '20s' })).toBe(2);
    expect(await handles[2]?.result({ timeout: '20s' })).toBe(2);
    expect(await perdure.client.publish(happened, 1, { key: 'a', requestId: 'r' })).toEqual({
      ...published,
      alreadyPublished: true,
    });
    expect(await handles[1]?.get()).toMatchObject({ status: 'WAITING' });
    await perdure.client.publish(happened, 2, { key: 'b' });
    expect(await handles[1]?.result({ timeout: '20s' })).toBe(4);
  });

  it('reach a run whose code is doing something else meanwhile', async () => {
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const definition = workflow('busy', async (ctx) => {
      const body = ctx.step('long', () => released).then(() => 'body');
      const got = ctx.waitForEvent(happened).then(async (n) => {
        await ctx.step('on event', () => release());
        return n;
      });
      return Promise.all([got, body]);
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('both steps', async () => (await steps(handle.runId)).length === 2);
    await perdure.client.publish(happened, 7);
    expect(await handle.result({ timeout: '20s' })).toEqual([7, 'body']);
  });

  it('of before the wait are found by those that look back, the oldest first, each once', async () => {
    const before = new Date(0);
    const definition = workflow('looks-back', async (ctx) => {
      const got: unknown[] = [];
      for (let n = 0; n < 3; n++) got.push(await ctx.waitForEvent(happened, { since: '1 hour', timeout: 0 }));
      got.push(await ctx.waitForEvent(happened, { since: before, key: 'k', timeout: 0 }));
      got.push(await ctx.waitForEvent(happened, { timeout: 0 }));
      return got;
    });
    await perdure.client.publish(happened, 1);
    await perdure.client.publish(happened, 2);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await perdure.client.execute(definition, { taskQueue, timeout: '20s' })).toEqual([1, 2, null, null, null]);
  });

  it('do not come in time: null', async () => {
    const definition = workflow('timeouts', async (ctx) => [
      await ctx.waitForEvent(happened, { timeout: '1 hour' }),
      await ctx.waitForEvent(happened),
    ]);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await endSleep(perdure, handle.runId);
    await until('the second wait', async () => (await steps(handle.runId)).length === 2);
    await perdure.client.publish(happened, 3);
    expect(await handle.result({ timeout: '20s' })).toEqual([null, 3]);
  });

  it('race a sleep and a signal; the loser keeps its meaning in a replay', async () => {
    const definition = workflow('races', async (ctx) => {
      const winner = await Promise.race([
        ctx.sleep('1 hour').then(() => 'sleep'),
        ctx.waitForSignal<number>('go').then((n) => `go ${n}`),
        ctx.waitForEvent(happened, { key: 'k' }).then((n) => `event ${n}`),
      ]);
      await ctx.waitForSignal('more');
      return winner;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0 });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await perdure.client.publish(happened, 1, { key: 'k' });
    await until('the fourth step', async () => (await steps(handle.runId)).length === 4);
    await isWaiting(handle.runId);
    await handle.signal('go', 1);
    await handle.signal('more');
    expect(await handle.result({ timeout: '20s' })).toBe('event 1');
  });

  it('are no longer awaited by a run that is cancelled', async () => {
    const definition = workflow('cancelled', async (ctx) => void (await ctx.waitForEvent(happened)));
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await handle.cancel();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ name: 'WorkflowCancelledError' });
    expect(await perdure.workflows.publishEvent({ name: happened.name })).toMatchObject({
      received: 0,
      isSpread: true,
    });
  });

  it('are published from workflows, exactly once', async () => {
    const receiver = workflow('receiver', async (ctx) => [
      await ctx.waitForEvent(happened, { key: 'k' }),
      await ctx.waitForEvent(happened, { key: 'k', timeout: 0 }),
    ]);
    const publisher = workflow('publisher', async (ctx) => {
      await ctx.publish(happened, 5, { key: 'k' });
      await ctx.step('last', () => undefined);
    });
    await perdure.startWorker({ taskQueue, workflows: [receiver, publisher], warmRuns: 0 });
    const to = await perdure.client.start(receiver, { taskQueue });
    await isWaiting(to.runId);
    await perdure.client.execute(publisher, { taskQueue, timeout: '20s' });
    expect(await to.result({ timeout: '20s' })).toEqual([5, null]);
  });

  it('are checked by their schema, by the publisher and in the workflow', async () => {
    const paid = event(happened.name, z.object({ amount: z.number().positive() }));
    const definition = workflow('checks', async (ctx) => (await ctx.waitForEvent(paid)).amount);
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await expect(perdure.client.publish(paid, { amount: -1 })).rejects.toThrow(InvalidInputError);
    await perdure.client.publish(paid.name, { amount: 'much' });
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({
      cause: { message: expect.stringContaining('does not fit its schema: amount') },
    });
  });

  it('refuse mistakes with what is expected', async () => {
    const definition = workflow('mistakes', async (ctx) => {
      const problems: string[] = [];
      const waits = [
        { since: new Date(Number.NaN) },
        { since: '2 monhts' as never },
        { key: '' },
        { keys: 'k' } as never,
        { timeout: -1 },
      ];
      for (const wait of waits) {
        await ctx.waitForEvent(happened, wait).catch((error: Error) => problems.push(error.message));
      }
      return problems;
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await perdure.client.execute(definition, { taskQueue, timeout: '20s' })).toEqual([
      expect.stringContaining('valid Date as since'),
      expect.stringContaining('since, when it is not a Date, must be ms or a string'),
      expect.stringContaining('The key of event'),
      expect.stringContaining("did you mean 'key'"),
      expect.stringContaining('The timeout of event'),
    ]);
    await expect(perdure.client.publish(happened, 1, { key: 'x'.repeat(300) })).rejects.toThrow('The key of event');
    expect(() => event('a#2')).toThrow('must not end with #');
  });

  it('reach every one of many runs, also of those for which the publishing statement had no room', async () => {
    const definition = workflow('many', async (ctx) => ctx.waitForEvent(happened));
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns: 0, concurrency: 200 });
    const started = await perdure.client.startMany(
      definition,
      Array.from({ length: 1_100 }, () => ({ options: { taskQueue } })),
    );
    await until(
      'all to wait',
      async () => {
        const { counts } = await perdure.workflows.countRuns({ taskQueue });
        return counts.find(({ count }) => count === 1_100n)?.status === RunStatus.WAITING;
      },
      120_000,
    );
    const answer = await perdure.workflows.publishEvent({ name: happened.name });
    expect(answer).toMatchObject({ received: 1_000, isSpread: false });
    for (const handle of started) if ('result' in handle) await handle.result({ timeout: '120s' });
  }, 240_000);

  it('are listed, and their waits are seen in the history and the description', async () => {
    const definition = workflow('seen', async (ctx) => ctx.waitForEvent(happened, { key: 'k', since: '1 hour' }));
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    expect((await steps(handle.runId))[0]).toMatchObject({ awaits: `${happened.name} (key 'k')` });
    await perdure.client.publish(happened, 1, { key: 'k' });
    const { events } = await perdure.workflows.listEvents({ name: happened.name, includePayloads: true });
    expect(events).toMatchObject([{ name: happened.name, key: 'k', payload: { encoding: 'json' } }]);
    await expect(perdure.workflows.listEvents({ key: 'k' })).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
    await expect(perdure.workflows.listEvents({ namespace: 'nowhere' })).rejects.toMatchObject({
      reason: 'NAMESPACE_NOT_FOUND',
    });
  });
});

describe('waits of workers without an SDK', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());
  const api = async (method: string, request: object) => {
    const response = await fetch(`http://${perdure.server.httpAddress}/perdure.v1.${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request),
    });
    // biome-ignore lint/suspicious/noExplicitAny: JSON as a worker without types sees it.
    return { status: response.status, body: (await response.json()) as any };
  };

  it('wait for an event and a promise with JSON over HTTP, as the documentation shows', async () => {
    const taskQueue = `q-${uuid()}`;
    await api('WorkflowService/StartWorkflow', { workflowType: 'w', taskQueue });
    const { workerId } = (await api('WorkerService/RegisterWorker', { taskQueue, workflowTypes: ['w'], slots: 1 }))
      .body;
    const claim = async () => (await api('WorkerService/PollActivity', { workerId, taskQueue })).body.runs[0];
    const { runId, leaseToken } = await claim();
    const lease = { runId, leaseToken };
    const event = { name: 'order.paid', key: '7', lookBack: '3600s' };
    const step = { attemptNumber: 1, eventSeq: 1 };
    expect((await api('WorkerService/AwaitStep', { ...lease, ...step, stepId: 'paid', seq: 1, event })).body).toEqual({
      attemptNumber: 1,
    });
    const promise = createHash('sha256').update(`perdure promise\n${runId}\napproval`).digest('hex').slice(0, 40);
    const wait = { ...lease, ...step, stepId: 'approval', seq: 2 };
    expect(await api('WorkerService/AwaitStep', { ...wait, promise: 'mine' })).toMatchObject({ status: 400 });
    expect(await api('WorkerService/AwaitStep', { ...wait, promise })).toMatchObject({ status: 200 });
    await api('WorkerService/SuspendRun', { ...lease, arrivalsAwaited: 2 });
    const payload = { data: 'MQ==', encoding: 'json' };
    expect((await api('WorkflowService/PublishEvent', { name: 'order.paid', key: '7', payload })).body).toMatchObject({
      received: 1,
      isSpread: true,
    });
    expect((await api('WorkflowService/ResolvePromise', { promiseId: promise, value: payload })).body).toEqual({
      state: 'PROMISE_STATE_RESOLVED',
    });
    const place = { leaseToken: 2, eventSeq: 1 };
    expect((await claim()).memo).toMatchObject([
      { stepId: 'paid', kind: 'STEP_KIND_EVENT', status: 'STEP_STATUS_COMPLETED', output: payload, ...place },
      { stepId: 'approval', kind: 'STEP_KIND_PROMISE', status: 'STEP_STATUS_COMPLETED', output: payload, ...place },
    ]);
  });
});

describe('events after a crash', () => {
  it('the reaper continues what no server has spread', async () => {
    const perdure = await startPerdure({ reaper: false });
    const taskQueue = `q-${uuid()}`;
    const definition = workflow('waits', async (ctx) => ctx.waitForEvent<number>('x'));
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await until('the run to wait', async () => (await handle.get()).status === 'WAITING');
    // As a server leaves it that died after the first statement.
    await perdure.database.sql`
      insert into perdure.events (event_id, published_at, expires_at, namespace, name, payload, payload_encoding)
      values (gen_random_uuid(), perdure.clock(), perdure.clock() + interval '1 day', 'default', 'x', '7'::bytea, 'json')`;
    perdure.startReaper();
    expect(await handle.result({ timeout: '20s' })).toBe(7);
    await perdure.stop();
  });
});
