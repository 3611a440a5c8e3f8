import { connect } from 'node:http2';
import { aesGcmCodec, Client, workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

describe('durable promises', () => {
  let perdure: TestPerdure;
  let taskQueue: string;
  let ids: string[];
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER, server: { maxPayloadBytes: 10_000 } });
  });
  afterAll(() => perdure.stop());
  beforeEach(() => {
    taskQueue = `q-${uuid()}`;
    ids = [];
  });
  const isWaiting = (runId: string) =>
    until('the run to wait', async () => (await perdure.client.handle(runId).get()).status === 'WAITING');
  const approval = workflow('approval', async (ctx) => {
    const promise = ctx.promise<{ approved: boolean }>('approval');
    await ctx.step('mail', () => void ids.push(promise.id));
    return promise.result();
  });
  const start = async (warmRuns = 0, definition = approval) => {
    await perdure.startWorker({ taskQueue, workflows: [definition], warmRuns });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    return { handle, id: ids[0] as string };
  };
  const http = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(`http://${perdure.server.httpAddress}/promises/${path}`, init);
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as Record<string, unknown>,
    };
  };
  const post = (path: string, body: string, headers: Record<string, string> = { 'content-type': 'application/json' }) =>
    http(path, { method: 'POST', body, headers });

  it.each([
    ['warm', 100],
    ['cold', 0],
  ])('are resolved once, with the id that the code has given away (%s)', async (_, warmRuns) => {
    const { handle, id } = await start(warmRuns);
    expect(id).toMatch(/^[0-9a-f]{40}$/);
    expect(await perdure.client.getPromise(id)).toMatchObject({
      state: 'PENDING',
      runId: handle.runId,
      stepId: 'approval',
      timesOutAt: undefined,
    });
    expect(await perdure.client.resolvePromise(id, { approved: true })).toEqual({
      alreadySettled: false,
      state: 'RESOLVED',
    });
    expect(await perdure.client.resolvePromise(id, { approved: false })).toEqual({
      alreadySettled: true,
      state: 'RESOLVED',
    });
    expect(await perdure.client.rejectPromise(id, new Error('no'))).toEqual({
      alreadySettled: true,
      state: 'RESOLVED',
    });
    expect(await handle.result({ timeout: '20s' })).toEqual({ approved: true });
    expect(await perdure.client.getPromise(id)).toMatchObject({ state: 'RESOLVED', value: { approved: true } });
  });

  it('are rejected with an error that the code sees', async () => {
    const { handle, id } = await start();
    expect(
      await perdure.client.rejectPromise(id, Object.assign(new RangeError('too much'), { code: 'E1' })),
    ).toMatchObject({
      state: 'REJECTED',
    });
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({
      cause: { name: 'RangeError', message: 'too much', code: 'E1' },
    });
    expect((await perdure.client.getPromise(id)).error).toMatchObject({ message: 'too much' });
  });

  it('are recorded before a body may give their id away', async () => {
    const definition = workflow('early', async (ctx) => {
      const promise = ctx.promise<string>('p');
      await ctx.step('webhook', () => perdure.client.resolvePromise(promise.id, 'at once'));
      return promise.result();
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    expect(await perdure.client.execute(definition, { taskQueue, timeout: '20s' })).toBe('at once');
  });

  it('time out: null; and then they are gone', async () => {
    const definition = workflow('times-out', async (ctx) => {
      const promise = ctx.promise<string>('p', { timeout: '1 hour' });
      await ctx.step('mail', () => void ids.push(promise.id));
      return promise.result();
    });
    await perdure.startWorker({ taskQueue, workflows: [definition] });
    const handle = await perdure.client.start(definition, { taskQueue });
    await isWaiting(handle.runId);
    await endSleep(perdure, handle.runId);
    expect(await handle.result({ timeout: '20s' })).toBeNull();
    const [id] = ids as [string];
    expect(await perdure.client.resolvePromise(id, 'late')).toEqual({ alreadySettled: true, state: 'TIMED_OUT' });
    expect(await post(`${id}/resolve`, '1')).toMatchObject({ status: 410, body: { state: 'TIMED_OUT' } });
  });

  it('stay settled, and events stay received, when the run is retried', async () => {
    let attempts = 0;
    const happened = `e-${uuid()}`;
    const definition = workflow('retried', { retry: { maxAttempts: 2, backoff: 'fixed', initial: 1 } }, async (ctx) => {
      attempts++;
      const received = async () => {
        const promise = ctx.promise<number>('p');
        const got = ctx.waitForEvent<number>(happened);
        await ctx.step('mail', () => void ids.push(promise.id));
        return [await promise.result(), await got];
      };
      await ctx
        .step(
          'maybe',
          () => {
            if (attempts === 1) throw new Error('not yet');
          },
          { retry: { maxAttempts: 1 } },
        )
        .catch(async (error) => {
          await received();
          throw error;
        });
      return received();
    });
    const { handle, id } = await start(0, definition as never);
    await perdure.client.resolvePromise(id, 9);
    await perdure.client.publish(happened, 8);
    expect(await handle.result({ timeout: '20s' })).toEqual([9, 8]);
    expect([attempts > 1, new Set(ids).size]).toEqual([true, 1]);
  });

  it('race each other, timers and signals; replays see the same', async () => {
    const definition = workflow('races', async (ctx) => {
      const first = ctx.promise<string>('p');
      const second = ctx.promise<string>('p');
      await ctx.step('mail', () => void ids.push(first.id, second.id));
      const winner = await Promise.race([
        first.result(),
        second.result(),
        ctx.sleep('1 hour').then(() => 'sleep'),
        ctx.waitForSignal('go').then(() => 'go'),
      ]);
      await ctx.waitForSignal('more');
      return winner;
    });
    const { handle } = await start(0, definition as never);
    await perdure.client.resolvePromise(ids[1] as string, 'second');
    await until(
      'the last wait',
      async () => (await perdure.workflows.getHistory({ runId: handle.runId })).steps.length === 6,
    );
    await isWaiting(handle.runId);
    await perdure.client.resolvePromise(ids[0] as string, 'first');
    await handle.signal('more');
    expect(await handle.result({ timeout: '20s' })).toBe('second');
    expect(ids).toHaveLength(2);
  });

  it('of a cancelled run are cancelled', async () => {
    const { handle, id } = await start();
    await handle.cancel();
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({ name: 'WorkflowCancelledError' });
    expect(await perdure.client.resolvePromise(id)).toEqual({ alreadySettled: true, state: 'CANCELLED' });
  });

  it('are unknown to other namespaces, and under other ids', async () => {
    const { id } = await start();
    await perdure.admin.createNamespace({ name: 'other' });
    const other = new Client({ connection: perdure.connection, namespace: 'other' });
    await expect(other.resolvePromise(id, 1)).rejects.toMatchObject({ reason: 'PROMISE_NOT_FOUND' });
    await expect(other.getPromise(id)).rejects.toMatchObject({ reason: 'PROMISE_NOT_FOUND' });
    expect((await perdure.workflows.listPromises({ namespace: 'other' })).promises).toEqual([]);
    await expect(perdure.client.resolvePromise('none', 1)).rejects.toMatchObject({ reason: 'PROMISE_NOT_FOUND' });
    const { promises } = await perdure.workflows.listPromises({});
    expect(promises.map(({ promiseId }) => promiseId)).toContain(id);
  });

  it('are resolved over plain HTTP with JSON, once', async () => {
    const { handle, id } = await start();
    expect(await http(id)).toMatchObject({ status: 200, body: { id, state: 'PENDING', settledAt: null } });
    expect(JSON.stringify(await http(id))).not.toContain(handle.runId);
    const first = await post(`${id}/resolve?source=webhook`, '{"approved":true}');
    expect(first).toMatchObject({ status: 200, body: { id, state: 'RESOLVED', alreadySettled: false } });
    expect(await post(`${id}/reject`, '{"message":"no"}')).toMatchObject({
      status: 200,
      body: { state: 'RESOLVED', alreadySettled: true },
    });
    expect(await handle.result({ timeout: '20s' })).toEqual({ approved: true });
    expect(await http(id)).toMatchObject({ body: { state: 'RESOLVED', settledAt: expect.any(String) } });
  });

  it('are rejected over HTTP with a message', async () => {
    const { handle, id } = await start();
    expect(await post(`${id}/reject`, '"no"')).toMatchObject({
      status: 400,
      body: { error: expect.stringContaining('message') },
    });
    expect(await post(`${id}/reject`, '{"message":"no","type":"Refusal","code":"E7"}')).toMatchObject({ status: 200 });
    await expect(handle.result({ timeout: '20s' })).rejects.toMatchObject({
      cause: { name: 'Refusal', message: 'no', code: 'E7' },
    });
  });

  it('refuse over HTTP what is not JSON, too large, or meant for nothing', async () => {
    const { id } = await start();
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    expect(await post(`${id}/resolve`, '{"a":1}', form)).toMatchObject({
      status: 415,
      body: { error: expect.stringContaining('Content-Type: application/json') },
    });
    expect(await post(`${id}/resolve`, '{"a":1}', { 'content-type': 'text/plain' })).toMatchObject({ status: 415 });
    expect(await post(`${id}/resolve`, '{')).toMatchObject({ status: 400 });
    expect(await post(`${id}/resolve`, `"${'x'.repeat(10_000)}"`)).toMatchObject({ status: 413 });
    const wrong = await http(`${id}/resolve`);
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'POST']);
    expect(await http(id, { method: 'DELETE' })).toMatchObject({ status: 405 });
    expect(await http(`${id}/resolve`, { method: 'OPTIONS' })).toMatchObject({ status: 405 });
    expect(await post('none/resolve', '1')).toMatchObject({ status: 404 });
    expect(await http('none')).toMatchObject({ status: 404 });
    expect(await post(`${id}/accept`, '1')).toMatchObject({ status: 404 });
    expect(await http(id)).toMatchObject({ body: { state: 'PENDING' } });
  });

  it('are resolved over HTTP/2', async () => {
    const { handle, id } = await start();
    const session = connect(`http://${perdure.server.httpAddress}`);
    const request = session.request({
      ':method': 'POST',
      ':path': `/promises/${id}/resolve`,
      'content-type': 'application/json; charset=utf-8',
    });
    const status = new Promise((resolve) => request.once('response', (headers) => resolve(headers[':status'])));
    request.end('{"approved":false}');
    request.resume();
    expect(await status).toBe(200);
    session.close();
    expect(await handle.result({ timeout: '20s' })).toEqual({ approved: false });
  });

  it('take plain JSON from outside also when the codec encrypts', async () => {
    const codec = aesGcmCodec({ keys: { k: new Uint8Array(32).fill(7) }, activeKey: 'k' });
    const client = new Client({ connection: perdure.connection, codec });
    await perdure.startWorker({ taskQueue, workflows: [approval], codec });
    const handle = await client.start(approval, { taskQueue });
    await isWaiting(handle.runId);
    await post(`${ids[0]}/resolve`, '{"approved":true}');
    expect(await handle.result({ timeout: '20s' })).toEqual({ approved: true });
    const refused = await client.start(approval, { taskQueue });
    await isWaiting(refused.runId);
    await post(`${ids[1]}/reject`, '{"message":"no","details":{"limit":5}}');
    await expect(refused.result({ timeout: '20s' })).rejects.toMatchObject({ cause: { message: 'no' } });
  });
});
