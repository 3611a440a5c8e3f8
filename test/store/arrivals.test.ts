import {
  type AwaitStep,
  awaitSteps,
  cancelRuns,
  endRuns,
  type LeaseRef,
  type SendSignal,
  sendSignals,
  settleSteps,
  suspendRuns,
  takeArrivals,
  wakeSleepers,
} from '@perdure/store';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openTestStore, type TestStore } from '../support/store.js';

const text = (value: string) => ({ data: new TextEncoder().encode(value), encoding: 'text' });
const textOf = (payload: { readonly data: Uint8Array } | null | undefined) =>
  payload == null ? null : new TextDecoder().decode(payload.data);

describe('waits for what comes from outside', () => {
  let store: TestStore;
  let workerId: string;
  let lease: LeaseRef;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  beforeEach(async () => {
    lease = await newLease();
  });

  const newLease = async () => {
    const [runId] = await store.start();
    const leases = await store.claim(workerId, 10);
    const found = leases.find((candidate) => candidate.runId === runId);
    if (found === undefined) throw new Error('The run was not claimed.');
    return found;
  };
  const signal = (more: Partial<SendSignal> = {}): SendSignal => ({
    namespace: 'default',
    runId: lease.runId,
    name: 'go',
    payload: text('x'),
    requestId: null,
    sender: 'test',
    maxUnconsumed: 100,
    ...more,
  });
  const waiting = (more: Partial<AwaitStep> = {}): AwaitStep => ({
    ...lease,
    stepId: 'go',
    seq: 1,
    stepKind: 'SIGNAL',
    attemptNumber: 1,
    awaits: 'go',
    timeoutMs: null,
    eventSeq: 1,
    uncancellable: false,
    ...more,
  });
  const take = async (eventSeq: number, more: { dueStepIds?: readonly string[]; of?: LeaseRef } = {}) => {
    const [outcome] = await takeArrivals(store.db, [
      { ...(more.of ?? lease), eventSeq, dueStepIds: more.dueStepIds ?? [] },
    ]);
    if (outcome?.kind !== 'taken') throw new Error(`Got ${outcome?.kind}.`);
    return outcome;
  };
  const suspend = async (
    more: { waits?: readonly { stepId: string; on: 'TIMER' | 'RETRY' | 'ARRIVAL' }[]; n?: number } = {},
  ) =>
    (
      await suspendRuns(store.db, [{ ...lease, waits: more.waits ?? [], arrivalsAwaited: more.n ?? 1, isKept: false }])
    )[0];

  it('a signal that was sent before is received when the step begins, the oldest first', async () => {
    await sendSignals(store.db, [signal({ payload: text('1') }), signal({ payload: text('2') })]);
    const [first, second, third] = await awaitSteps(store.db, [
      waiting(),
      waiting({ stepId: 'go#2', seq: 2, eventSeq: 2 }),
      waiting({ stepId: 'go#3', seq: 3, eventSeq: 3 }),
    ]);
    expect(first).toMatchObject({ kind: 'arrived', status: 'COMPLETED' });
    expect(first?.kind === 'arrived' && textOf(first.output)).toBe('1');
    expect(second?.kind === 'arrived' && textOf(second.output)).toBe('2');
    expect(third).toMatchObject({ kind: 'waiting', remainingMs: null });
    const [repeat] = await awaitSteps(store.db, [waiting()]);
    expect(repeat?.kind === 'arrived' && textOf(repeat.output)).toBe('1');
  });

  it('a signal to a step that waits ends it; its worker takes it once, and a repeat gets the same', async () => {
    await awaitSteps(store.db, [waiting()]);
    const [sent] = await sendSignals(store.db, [signal()]);
    expect(sent).toMatchObject({ kind: 'sent', seq: 1, effect: { kind: 'arrived', holder: { workerId } } });
    const taken = await take(1);
    expect(taken.arrivals).toMatchObject([{ stepId: 'go', status: 'COMPLETED', eventSeq: 1 }]);
    expect((await take(1)).arrivals).toEqual(taken.arrivals);
    expect((await take(2)).arrivals).toEqual([]);
    expect(await store.run(lease.runId)).toMatchObject({ has_arrivals: false, signal_seq: 1 });
  });

  it('a late repeat of a call that took nothing takes nothing', async () => {
    await awaitSteps(store.db, [waiting()]);
    expect((await take(1)).arrivals).toEqual([]);
    await sendSignals(store.db, [signal()]);
    expect((await take(1)).arrivals).toEqual([]);
    expect((await take(2)).arrivals).toMatchObject([{ stepId: 'go' }]);
  });

  it('several arrivals are taken in the order in which they came, in bounded answers', async () => {
    await awaitSteps(
      store.db,
      Array.from({ length: 1_500 }, (_, index) =>
        waiting({ stepId: `s${index}`, seq: index + 1, awaits: `n${index}`, eventSeq: index + 1 }),
      ),
    );
    const order = Array.from({ length: 1_500 }, (_, index) => `n${(index * 7) % 1_500}`);
    for (const name of order.slice(0, 3)) await sendSignals(store.db, [signal({ name })]);
    await sendSignals(
      store.db,
      order.slice(3).map((name) => signal({ name, maxUnconsumed: 2_000 })),
    );
    const first = await take(2_000);
    expect(first.arrivals.slice(0, 3).map(({ stepId }) => stepId)).toEqual(['s0', 's7', 's14']);
    expect(first).toMatchObject({ hasMore: true });
    expect(first.arrivals).toHaveLength(1_000);
    expect(await suspend()).toMatchObject({ kind: 'not_suspended', hasArrivals: true });
    const second = await take(2_001);
    expect(second).toMatchObject({ hasMore: false });
    expect(new Set([...first.arrivals, ...second.arrivals].map(({ stepId }) => stepId)).size).toBe(1_500);
  });

  it('a suspended run wakes with its signal, and not with another one', async () => {
    await awaitSteps(store.db, [waiting()]);
    expect(await suspend()).toMatchObject({ kind: 'suspended', wakeAt: null });
    expect(await store.run(lease.runId)).toMatchObject({ status: 'WAITING' });
    expect((await sendSignals(store.db, [signal({ name: 'other' })]))[0]).toMatchObject({ effect: { kind: 'none' } });
    expect(await store.run(lease.runId)).toMatchObject({ status: 'WAITING' });
    expect((await sendSignals(store.db, [signal()]))[0]).toMatchObject({
      effect: { kind: 'woken', queue: { taskQueue: 'q' }, workflowType: 'w' },
    });
    expect(await store.run(lease.runId)).toMatchObject({ status: 'PENDING', has_arrivals: true });
    const [next] = await store.claim(workerId);
    expect((await take(1, { of: next as LeaseRef })).arrivals).toMatchObject([{ stepId: 'go' }]);
  });

  it('a signal that came just before the suspension refuses it', async () => {
    await awaitSteps(store.db, [waiting()]);
    await sendSignals(store.db, [signal()]);
    expect(await suspend()).toMatchObject({ kind: 'not_suspended', hasArrivals: true });
  });

  it('a run may wake after several arrivals', async () => {
    await awaitSteps(store.db, [waiting(), waiting({ stepId: 'go#2', seq: 2 }), waiting({ stepId: 'go#3', seq: 3 })]);
    await suspend({ n: 3 });
    await sendSignals(store.db, [signal(), signal()]);
    expect(await store.run(lease.runId)).toMatchObject({ status: 'WAITING', arrivals_awaited: 1 });
    await sendSignals(store.db, [signal()]);
    expect(await store.run(lease.runId)).toMatchObject({ status: 'PENDING' });
  });

  it('a suspension that waits for nothing is refused, and one for more than there is waits for all', async () => {
    expect(await suspend()).toMatchObject({ kind: 'unknown_wait' });
    await awaitSteps(store.db, [waiting()]);
    expect(await suspend({ n: 5 })).toMatchObject({ kind: 'suspended' });
    expect(await store.run(lease.runId)).toMatchObject({ arrivals_awaited: 1 });
  });

  it('a timeout of 0 does not wait; one that has passed ends the wait, by whoever sees it first', async () => {
    expect((await awaitSteps(store.db, [waiting({ timeoutMs: 0 })]))[0]).toMatchObject({
      kind: 'arrived',
      status: 'TIMED_OUT',
    });
    await awaitSteps(store.db, [waiting({ stepId: 'b', seq: 2, timeoutMs: 60_000 })]);
    expect((await take(2, { dueStepIds: ['b'] })).notDue).toMatchObject([{ stepId: 'b' }]);
    await awaitSteps(store.db, [waiting({ stepId: 'c', seq: 3, timeoutMs: 1 })]);
    // By the database's clock it is past: another statement has a later time.
    expect((await take(3, { dueStepIds: ['c', 'b'] })).arrivals).toMatchObject([{ stepId: 'c', status: 'TIMED_OUT' }]);
    expect((await sendSignals(store.db, [signal()]))[0]).toMatchObject({ effect: { kind: 'arrived' } });
    expect((await take(4)).arrivals).toMatchObject([{ stepId: 'b', status: 'COMPLETED' }]);
  });

  it('the reaper ends the timeouts of a suspended run', async () => {
    await awaitSteps(store.db, [waiting({ timeoutMs: 3_600_000 }), waiting({ stepId: 'z', seq: 2, awaits: 'z' })]);
    await suspend({ waits: [{ stepId: 'go', on: 'ARRIVAL' }] });
    await store.database
      .sql`update perdure.step_runs set fires_at = now() where run_id = ${lease.runId} and step_id = 'go'`;
    await store.database.sql`update perdure.workflow_runs set wake_at = now() where run_id = ${lease.runId}`;
    expect(await wakeSleepers(store.db, { limit: 10 })).toMatchObject({ woken: 1 });
    const [next] = await store.claim(workerId);
    expect((await take(1, { of: next as LeaseRef })).arrivals).toMatchObject([{ stepId: 'go', status: 'TIMED_OUT' }]);
  });

  it('a request id sends once, also within one batch; a full run and an ended run take nothing', async () => {
    const twice = await sendSignals(store.db, [signal({ requestId: 'r' }), signal({ requestId: 'r' })]);
    expect(twice).toMatchObject([{ kind: 'sent', seq: 1 }, { kind: 'already_sent' }]);
    expect((await sendSignals(store.db, [signal({ requestId: 'r' })]))[0]).toMatchObject({
      kind: 'already_sent',
      seq: 1,
    });
    const many = await sendSignals(
      store.db,
      Array.from({ length: 5 }, () => signal({ maxUnconsumed: 3 })),
    );
    expect(many.map(({ kind }) => kind)).toEqual(['sent', 'sent', ...Array(3).fill('too_many_signals')]);
    await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    expect((await sendSignals(store.db, [signal()]))[0]).toMatchObject({ kind: 'run_closed', status: 'COMPLETED' });
    expect((await sendSignals(store.db, [signal({ requestId: 'r' })]))[0]).toMatchObject({ kind: 'already_sent' });
    expect((await sendSignals(store.db, [signal({ namespace: 'elsewhere' })]))[0]).toMatchObject({
      kind: 'run_not_found',
    });
  });

  it('a repeat beside a first one that is refused is refused too, and not taken for sent', async () => {
    const full = await sendSignals(store.db, [
      signal({ maxUnconsumed: 1 }),
      signal({ requestId: 'r', maxUnconsumed: 1 }),
      signal({ requestId: 'r', maxUnconsumed: 1 }),
    ]);
    expect(full.map(({ kind }) => kind)).toEqual(['sent', 'too_many_signals', 'too_many_signals']);
    await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    const closed = await sendSignals(store.db, [signal({ requestId: 'q' }), signal({ requestId: 'q' })]);
    expect(closed.map(({ kind }) => kind)).toEqual(['run_closed', 'run_closed']);
  });

  it('a cancel ends a wait that nothing has come for; what has come is there first', async () => {
    await awaitSteps(store.db, [waiting(), waiting({ stepId: 'b', seq: 2 })]);
    await sendSignals(store.db, [signal()]);
    await cancelRuns(store.db, [{ namespace: 'default', runId: lease.runId, reason: '' }]);
    const settle = (stepId: string, seq: number) => ({
      ...lease,
      stepId,
      seq,
      stepKind: 'SIGNAL' as const,
      attemptNumber: 1,
      status: 'CANCELLED' as const,
      eventSeq: 5,
    });
    expect((await settleSteps(store.db, [settle('go', 1), settle('b', 2)])).map(({ kind }) => kind)).toEqual([
      'arrived',
      'settled',
    ]);
    expect((await awaitSteps(store.db, [waiting({ stepId: 'c', seq: 3 })]))[0]).toMatchObject({
      kind: 'cancel_requested',
    });
    await sendSignals(store.db, [signal()]);
    expect(await store.attempts(lease.runId)).toMatchObject({ 'go/1': 'COMPLETED', 'b/1': 'CANCELLED' });
    expect((await awaitSteps(store.db, [waiting({ stepId: 'c', seq: 3, uncancellable: true })]))[0]).toMatchObject({
      kind: 'arrived',
    });
  });

  it('an old lease begins no wait and takes nothing', async () => {
    await awaitSteps(store.db, [waiting()]);
    await sendSignals(store.db, [signal()]);
    const old = { ...lease, leaseToken: lease.leaseToken - 1 };
    expect(await awaitSteps(store.db, [waiting({ ...old, stepId: 'c', seq: 2 })])).toEqual([{ kind: 'lease_lost' }]);
    expect(await takeArrivals(store.db, [{ ...old, eventSeq: 1, dueStepIds: [] }])).toEqual([{ kind: 'lease_lost' }]);
  });

  it('signals and waits of many connections at once meet: each signal is received once, in order', async () => {
    const waits = Array.from({ length: 200 }, (_, index) =>
      waiting({ stepId: `s${index}`, seq: index + 1, eventSeq: index + 1 }),
    );
    await Promise.all([
      (async () => {
        for (const wait of waits) await awaitSteps(store.db, [wait]);
      })(),
      (async () => {
        for (let n = 0; n < 200; n++)
          await sendSignals(store.db, [signal({ payload: text(String(n)), maxUnconsumed: 1_000 })]);
      })(),
    ]);
    const rows = await store.database.sql<{ step_id: string; seq: number; output: Uint8Array; n: number }[]>`
      select s.step_id, s.seq, s.output, g.seq as n from perdure.step_runs s
      join perdure.signals g on g.run_id = s.run_id and g.consumed_by = s.step_id
      where s.run_id = ${lease.runId} order by s.seq`;
    expect(rows.map(({ n }) => n)).toEqual(Array.from({ length: 200 }, (_, index) => index + 1));
    expect(rows.map(({ output }) => textOf({ data: output }))).toEqual(
      Array.from({ length: 200 }, (_, index) => String(index)),
    );
  });
});
