import {
  type AwaitStep,
  awaitSteps,
  endRuns,
  getPromise,
  type LeaseRef,
  listPromises,
  type PromiseCursor,
  type PromisePage,
  retryRunAttempts,
  type SettlePromise,
  settlePromises,
  suspendRuns,
  takeArrivals,
  wakeSleepers,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const text = (value: string) => ({ data: Buffer.from(value), encoding: 'text' });

describe('durable promises', () => {
  let store: TestStore;
  let workerId: string;
  let lease: LeaseRef;
  let promiseId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  beforeEach(async () => {
    promiseId = uuid();
    const [runId] = await store.start();
    lease = await claimed(runId as string);
  });

  const claimed = async (runId: string) => {
    const found = (await store.claim(workerId, 100)).find((candidate) => candidate.runId === runId);
    if (found === undefined) throw new Error('The run was not claimed.');
    return found;
  };
  const begin = async (more: Partial<AwaitStep> = {}) =>
    (
      await awaitSteps(store.db, [
        {
          ...lease,
          stepId: 'p',
          seq: 1,
          stepKind: 'PROMISE',
          attemptNumber: 1,
          awaits: promiseId,
          timeoutMs: null,
          eventSeq: 1,
          uncancellable: false,
          ...more,
        },
      ])
    )[0];
  const resolve = async (value: string, more: Partial<SettlePromise> = {}) =>
    (
      await settlePromises(store.db, [
        { namespace: 'default', promiseId, outcome: { kind: 'resolved', value: text(value) }, ...more },
      ])
    )[0];
  const reject = () => resolve('', { outcome: { kind: 'rejected', failure: FAILURE } });
  const take = async (eventSeq: number, of: LeaseRef = lease) => {
    const [outcome] = await takeArrivals(store.db, [{ ...of, eventSeq, dueStepIds: [] }]);
    if (outcome?.kind !== 'taken') throw new Error(`Got ${outcome?.kind}.`);
    return outcome.arrivals;
  };
  const state = async () => (await getPromise(store.db, { namespace: null, promiseId }))?.state;

  it('is settled once: every later settlement changes nothing', async () => {
    expect(await resolve('early')).toEqual({ kind: 'promise_not_found' });
    await begin();
    expect(await state()).toBe('PENDING');
    expect(await resolve('1')).toMatchObject({
      kind: 'settled',
      reached: { runId: lease.runId, namespace: 'default', effect: { kind: 'arrived', holder: { workerId } } },
    });
    expect(await resolve('2')).toEqual({ kind: 'already_settled', status: 'COMPLETED' });
    expect(await reject()).toEqual({ kind: 'already_settled', status: 'COMPLETED' });
    expect(await take(1)).toMatchObject([{ stepId: 'p', status: 'COMPLETED', output: text('1') }]);
    expect(await resolve('3')).toMatchObject({ kind: 'already_settled' });
    expect(await getPromise(store.db, { namespace: 'default', promiseId })).toMatchObject({
      state: 'RESOLVED',
      runId: lease.runId,
      stepId: 'p',
      value: { encoding: 'text' },
    });
  });

  it('two settlements in one batch: the first counts', async () => {
    await begin();
    const command: SettlePromise = { namespace: null, promiseId, outcome: { kind: 'resolved', value: null } };
    const other: SettlePromise = { ...command, outcome: { kind: 'rejected', failure: FAILURE } };
    expect((await settlePromises(store.db, [other, command])).map(({ kind }) => kind)).toEqual([
      'settled',
      'already_settled',
    ]);
    expect(await take(1)).toMatchObject([{ status: 'FAILED', failure: { message: 'm' } }]);
    expect(await state()).toBe('REJECTED');
  });

  it('settlements of many connections at once: one counts', async () => {
    await begin();
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? resolve('x') : reject())),
    );
    expect(outcomes.filter((outcome) => outcome?.kind === 'settled')).toHaveLength(1);
  });

  it('a suspended run wakes', async () => {
    await begin();
    await suspendRuns(store.db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]);
    expect(await resolve('x')).toMatchObject({ reached: { effect: { kind: 'woken', queue: { taskQueue: 'q' } } } });
    expect(await take(1, await claimed(lease.runId))).toMatchObject([{ stepId: 'p' }]);
  });

  it('cannot be reached from another namespace', async () => {
    await begin();
    expect(await resolve('x', { namespace: 'elsewhere' })).toEqual({ kind: 'promise_not_found' });
    expect(await getPromise(store.db, { namespace: 'elsewhere', promiseId })).toBeNull();
    expect(await resolve('x', { namespace: null })).toMatchObject({ kind: 'settled' });
  });

  it('is TIMED_OUT after its timeout, and CANCELLED when its run has ended', async () => {
    await begin({ timeoutMs: 0 });
    expect(await resolve('x')).toEqual({ kind: 'already_settled', status: 'TIMED_OUT' });
    expect(await state()).toBe('TIMED_OUT');
    promiseId = uuid();
    await begin({ stepId: 'q', seq: 2, eventSeq: 2 });
    await endRuns(store.db, [{ ...lease, end: 'FAILED', failure: FAILURE }]);
    expect(await resolve('x')).toEqual({ kind: 'already_settled', status: 'CANCELLED' });
    expect(await state()).toBe('CANCELLED');
  });

  it('stays settled when a run-level retry takes its wait back, also when it is settled in between', async () => {
    await begin();
    const other = uuid();
    await begin({ stepId: 'q', seq: 2, awaits: other });
    await resolve('1');
    await take(1);
    const cut = { from: { leaseToken: 1, eventSeq: 1 }, seq: 0 };
    await retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 0, cut }]);
    expect(await state()).toBe('RESOLVED');
    expect(await getPromise(store.db, { namespace: null, promiseId: other })).toMatchObject({
      state: 'PENDING',
      settledAt: null,
    });
    expect(await resolve('2', { promiseId: other })).toMatchObject({ kind: 'settled' });
    expect(await store.run(lease.runId)).toMatchObject({ status: 'SLEEPING', has_arrivals: false });
    expect(await resolve('3', { promiseId: other })).toMatchObject({ kind: 'already_settled', status: 'COMPLETED' });
    await wakeSleepers(store.db, { limit: 10 });
    const next = await claimed(lease.runId);
    expect(await begin({ ...next, attemptNumber: 2 })).toMatchObject({ kind: 'arrived', output: text('1') });
    expect(await begin({ ...next, attemptNumber: 2, stepId: 'q', seq: 2, awaits: other, eventSeq: 2 })).toMatchObject({
      kind: 'arrived',
      output: text('2'),
    });
  });

  it('lists pending promises, those of the newest runs first, and all of one run in program order', async () => {
    const ids = [uuid(), uuid(), uuid()];
    for (const [index, awaits] of ids.entries()) await begin({ stepId: `p${index}`, seq: index + 1, awaits });
    await resolve('x', { promiseId: ids[1] as string });
    const pending = await listPromises(store.db, { namespace: 'default', runId: null }, { limit: 2, after: null });
    expect(pending.promises.map((promise) => promise.promiseId)).toEqual([ids[2], ids[0]]);
    const first = await listPromises(store.db, { namespace: 'default', runId: lease.runId }, { limit: 2, after: null });
    expect(first.promises.map((promise) => promise.state)).toEqual(['PENDING', 'RESOLVED']);
    const second = await listPromises(
      store.db,
      { namespace: 'default', runId: lease.runId },
      { limit: 2, after: first.next },
    );
    expect(second).toMatchObject({ promises: [{ promiseId: ids[2] }], next: null });
    expect(
      await listPromises(store.db, { namespace: 'x', runId: lease.runId }, { limit: 2, after: null }),
    ).toMatchObject({
      promises: [],
    });
  });

  it('a page of pending promises reads a bounded number of those of all namespaces, and says where the next one begins', async () => {
    const ids = [uuid(), uuid(), uuid()];
    for (const [index, awaits] of ids.entries()) await begin({ stepId: `p${index}`, seq: index + 1, awaits });
    const all = async (namespace: string, maxRead: number) => {
      const pages: (readonly string[])[] = [];
      for (let after: PromiseCursor | null = null; ; ) {
        const page: PromisePage = await listPromises(
          store.db,
          { namespace, runId: null },
          { limit: 10, after, maxRead },
        );
        pages.push(page.promises.flatMap(({ runId, promiseId }) => (runId === lease.runId ? [promiseId] : [])));
        if (page.next === null) return pages;
        after = page.next;
      }
    };
    const [first, second] = await all('default', 2);
    expect([first, second]).toEqual([[ids[2], ids[1]], [ids[0]]]);
    const other = await all('other', 2);
    expect(other.length).toBeGreaterThan(1);
    expect(other.flat()).toEqual([]);
    expect(await all('other', 1_000)).toEqual([[]]);
  });
});
