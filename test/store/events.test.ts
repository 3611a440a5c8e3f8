import {
  type AwaitStep,
  awaitSteps,
  type EventWait,
  endRuns,
  forgetEvents,
  type LeaseRef,
  listEvents,
  type PublishEvent,
  publishEvents,
  retryRunAttempts,
  spreadEvents,
  suspendRuns,
  takeArrivals,
  wakeSleepers,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const text = (value: string) => ({ data: new TextEncoder().encode(value), encoding: 'text' });
const textOf = (payload: { readonly data: Uint8Array } | null | undefined) =>
  payload == null ? null : new TextDecoder().decode(payload.data);

describe('events', () => {
  let store: TestStore;
  let workerId: string;
  let lease: LeaseRef;
  /** A name of its own for each test. */
  let name: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  beforeEach(async () => {
    name = uuid();
    [lease] = (await newLeases(1)) as [LeaseRef];
  });

  const newLeases = async (count: number) => {
    const runIds = new Set(await store.start(count));
    const leases: LeaseRef[] = [];
    while (leases.length < count) {
      leases.push(...(await store.claim(workerId, 500)).filter(({ runId }) => runIds.has(runId)));
    }
    return leases;
  };
  const event = (more: Partial<PublishEvent> = {}): PublishEvent => ({
    namespace: 'default',
    eventId: uuid(),
    name,
    key: '',
    payload: text('x'),
    requestId: null,
    retentionMs: 3_600_000,
    ...more,
  });
  const waiting = (wait: Partial<EventWait> = {}, more: Partial<AwaitStep> = {}): AwaitStep => ({
    ...lease,
    stepId: 'w',
    seq: 1,
    stepKind: 'EVENT',
    attemptNumber: 1,
    awaits: JSON.stringify({ namespace: 'default', name, ...wait }),
    timeoutMs: null,
    eventSeq: 1,
    uncancellable: false,
    ...more,
  });
  const publish = async (more: Partial<PublishEvent> = {}) => {
    const [outcome] = await publishEvents(store.db, [event(more)]);
    if (outcome?.kind !== 'published') throw new Error(`Got ${outcome?.kind}.`);
    return outcome;
  };
  const begin = async (wait: Partial<EventWait> = {}, more: Partial<AwaitStep> = {}) => {
    const [outcome] = await awaitSteps(store.db, [waiting(wait, more)]);
    return outcome?.kind === 'arrived' ? textOf(outcome.output) : outcome?.kind;
  };
  const take = async (eventSeq: number, of: LeaseRef = lease) => {
    const [outcome] = await takeArrivals(store.db, [{ ...of, eventSeq, dueStepIds: [] }]);
    if (outcome?.kind !== 'taken') throw new Error(`Got ${outcome?.kind}.`);
    return Object.fromEntries(outcome.arrivals.map(({ stepId, output }) => [stepId, textOf(output)]));
  };
  const suspend = (of: LeaseRef) => suspendRuns(store.db, [{ ...of, waits: [], arrivalsAwaited: 1, isKept: false }]);
  const spreadAll = async (maxSteps?: number) => {
    const reached: string[] = [];
    for (let more = true; more; ) {
      const spread = await spreadEvents(store.db, maxSteps === undefined ? {} : { maxSteps });
      reached.push(...spread.reached.map(({ runId }) => runId));
      more = spread.hasMore;
    }
    return reached;
  };

  it('a run that somebody has locked holds back the events of its own key alone', async () => {
    const [locked, free] = (await newLeases(2)) as [LeaseRef, LeaseRef];
    await begin({ key: 'a' }, { ...locked });
    await begin({ key: 'b' }, { ...free });
    await store.database.sql.begin(async (transaction) => {
      await transaction`select from perdure.workflow_runs where run_id = ${locked.runId} for update`;
      expect(await publish({ key: 'a', payload: text('1') })).toMatchObject({ received: 0, isSpread: false });
      expect(await publish({ key: 'a', payload: text('2') })).toMatchObject({ received: 0, isSpread: false });
      for (let n = 0; n < 50; n++) await publish({ key: `c${n}` });
      expect(await publish({ key: 'b' })).toMatchObject({ received: 1, isSpread: true });
    });
    // Both events of the key, and whatever else is left, in one statement.
    expect(await spreadEvents(store.db)).toMatchObject({ hasMore: false, reached: [{ runId: locked.runId }] });
    expect(await take(1, locked)).toEqual({ w: '1' });
  });

  it('an event ends every wait that is open for its name and key, of any run, and no other', async () => {
    const leases = await newLeases(3);
    const [a, b, c] = leases as [LeaseRef, LeaseRef, LeaseRef];
    await begin({}, { ...a });
    await begin({ key: '1' }, { ...b });
    await begin({ key: '2' }, { ...c });
    await begin({ name: 'other' });
    const outcome = await publish({ key: '1' });
    expect(outcome).toMatchObject({ received: 2, isSpread: true });
    expect(outcome.reached.map(({ runId }) => runId).sort()).toEqual([a.runId, b.runId].sort());
    expect(outcome.reached.every(({ effect }) => effect.kind === 'arrived')).toBe(true);
    expect(await take(1, a)).toEqual({ w: 'x' });
    expect(await take(1, b)).toEqual({ w: 'x' });
    expect(await take(1, c)).toEqual({});
    expect(await take(1)).toEqual({});
    expect(await publish({ key: '' })).toMatchObject({ received: 0 });
  });

  it('all open waits of one run receive it', async () => {
    await begin();
    await begin({ key: 'k' }, { stepId: 'v', seq: 2 });
    expect(await publish({ key: 'k' })).toMatchObject({ received: 2 });
    expect(await take(1)).toEqual({ w: 'x', v: 'x' });
  });

  it('wakes suspended runs', async () => {
    await begin();
    await suspend(lease);
    expect((await publish()).reached).toMatchObject([
      { runId: lease.runId, effect: { kind: 'woken', queue: { taskQueue: 'q' }, workflowType: 'w' } },
    ]);
    expect(await store.run(lease.runId)).toMatchObject({ status: 'PENDING', has_arrivals: true });
  });

  it('an event of before the wait counts only for a wait that looks back to it', async () => {
    await publish({ payload: text('1') });
    await publish({ payload: text('2'), key: 'k' });
    expect(await begin()).toBe('waiting');
    expect(await begin({ lookBackMs: 60_000 }, { stepId: 'a', seq: 2 })).toBe('1');
    expect(await begin({ lookBackMs: 60_000, key: 'k' }, { stepId: 'b', seq: 3 })).toBe('2');
    expect(await begin({ since: new Date(0).toISOString(), key: 'other' }, { stepId: 'c', seq: 4 })).toBe('waiting');
    expect(await begin({ since: new Date(Date.now() + 1e6).toISOString() }, { stepId: 'd', seq: 5 })).toBe('waiting');
    expect(await begin({ namespace: 'elsewhere', lookBackMs: 60_000 }, { stepId: 'e', seq: 6 })).toBe('waiting');
  });

  it('a run receives each event once when it looks back again and again', async () => {
    for (const payload of ['1', '2', '3']) await publish({ payload: text(payload) });
    const received: unknown[] = [];
    for (let seq = 1; seq <= 4; seq++) {
      received.push(await begin({ lookBackMs: 60_000 }, { stepId: `w${seq}`, seq, eventSeq: seq }));
    }
    expect(received).toEqual(['1', '2', '3', 'waiting']);
    expect(await begin({ lookBackMs: 60_000 }, { stepId: 'w1', seq: 1 })).toBe('1');
    await publish({ payload: text('4') });
    expect(await take(5)).toEqual({ w4: '4' });
    expect(await begin({ lookBackMs: 60_000 }, { stepId: 'w5', seq: 5 })).toBe('waiting');
  });

  it('an event that is no longer kept is not found, and is deleted', async () => {
    const { eventId } = await publish();
    const other = await publish({ payload: text('kept') });
    await begin({ lookBackMs: 3e6 });
    await store.database.sql`update perdure.events set expires_at = now() where event_id = ${eventId}`;
    expect(await begin({ lookBackMs: 3e6 }, { stepId: 'v', seq: 2 })).toBe('kept');
    await store.database
      .sql`update perdure.events set expires_at = now() - interval '1 day' where event_id = ${eventId}`;
    while ((await forgetEvents(store.db, { limit: 1 })).hasMore);
    const rows = await store.database.sql<
      { event_id: string }[]
    >`select event_id from perdure.events where name = ${name}`;
    expect(rows.map(({ event_id }) => event_id)).toEqual([other.eventId]);
    expect(await store.database.sql`select 1 from perdure.event_receipts where event_id = ${eventId}`).toHaveLength(0);
  });

  it('deletes the receipts of an event in bounded batches before the event', async () => {
    const { eventId } = await publish();
    await store.database.sql`
      insert into perdure.event_receipts select ${eventId}, gen_random_uuid(), now(), 'w' from generate_series(1, 25)`;
    await store.database
      .sql`update perdure.events set expires_at = now() - interval '1 day' where event_id = ${eventId}`;
    const batches: unknown[] = [];
    for (let more = true; more; ) {
      const batch = await forgetEvents(store.db, { limit: 1 });
      batches.push(batch.events);
      more = batch.hasMore;
    }
    expect(batches).toEqual([0, 0, 1, 0]);
  });

  it('a request id publishes once per name, also within one batch', async () => {
    const [first, second, other] = await publishEvents(store.db, [
      event({ requestId: 'r' }),
      event({ requestId: 'r', key: 'another' }),
      event({ requestId: 'r', name: `${name}-2` }),
    ]);
    expect(first).toMatchObject({ kind: 'published' });
    expect(second).toMatchObject({ kind: 'already_published', eventId: first?.kind === 'published' && first.eventId });
    expect(other).toMatchObject({ kind: 'published' });
    expect(await publishEvents(store.db, [event({ requestId: 'r' }), event({ namespace: 'nowhere' })])).toMatchObject([
      { kind: 'already_published' },
      { kind: 'namespace_not_found' },
    ]);
  });

  it('an event that is written again, because another one of its batch was refused, is published once', async () => {
    await begin();
    const again = event();
    expect(await publishEvents(store.db, [again])).toMatchObject([{ kind: 'published', received: 1 }]);
    expect(await publishEvents(store.db, [again, event({ key: 'k' })])).toMatchObject([
      { kind: 'published', eventId: again.eventId, received: 0, isSpread: true },
      { kind: 'published' },
    ]);
  });

  it('a run that is locked meanwhile is left to the statement that follows', async () => {
    await begin();
    await store.database.sql.begin(async (sql) => {
      await sql`select 1 from perdure.workflow_runs where run_id = ${lease.runId} for update`;
      expect(await publish()).toMatchObject({ received: 0, isSpread: false });
      expect(await publish({ payload: text('later') })).toMatchObject({ received: 0, isSpread: false });
    });
    expect(await spreadAll()).toEqual([lease.runId]);
    expect(await take(1)).toEqual({ w: 'x' });
    expect(await spreadEvents(store.db)).toEqual({ reached: [], hasMore: false });
  });

  it('more waits than one statement takes receive it from the statements that follow, each once, also when they wait again', async () => {
    const leases = await newLeases(1_200);
    await awaitSteps(
      store.db,
      leases.map((of) => waiting({ lookBackMs: 60_000 }, of)),
    );
    const outcome = await publish();
    expect(outcome).toMatchObject({ received: 1_000, isSpread: false });
    const early = outcome.reached[0]?.runId;
    const again = leases.find(({ runId }) => runId === early) as LeaseRef;
    expect(await begin({ lookBackMs: 60_000 }, { ...again, stepId: 'z', seq: 2 })).toBe('waiting');
    const late = await spreadAll(70);
    expect(late).toHaveLength(200);
    expect(new Set([...outcome.reached.map(({ runId }) => runId), ...late]).size).toBe(1_200);
    const [row] = await store.database
      .sql`select count(*)::int as n from perdure.event_receipts where event_id = ${outcome.eventId}`;
    expect(row).toEqual({ n: 1_200 });
  });

  it('large payloads are copied in smaller statements', async () => {
    const leases = await newLeases(5);
    await awaitSteps(
      store.db,
      leases.map((of) => waiting({}, of)),
    );
    const outcome = await publish({ payload: { data: new Uint8Array(6 * 1024 * 1024), encoding: 'b' } });
    expect(outcome).toMatchObject({ received: 2, isSpread: false });
    expect(await spreadAll()).toHaveLength(3);
  });

  it('events of one name are received in the order of publication, also when the first is not spread yet', async () => {
    const leases = await newLeases(1_100);
    await awaitSteps(
      store.db,
      leases.map((of) => waiting({}, of)),
    );
    expect(await publish({ payload: text('1') })).toMatchObject({ received: 1_000 });
    expect(await publish({ payload: text('2') })).toMatchObject({ received: 0, isSpread: false });
    await spreadAll();
    const rows = await store.database.sql<{ output: Uint8Array }[]>`
      select output from perdure.step_runs where kind = 'EVENT' and awaits::jsonb->>'name' = ${name}`;
    expect(new Set(rows.map(({ output }) => textOf({ data: output })))).toEqual(new Set(['1']));
  });

  it('several callers spread together: nobody is missed and nobody receives it twice', async () => {
    const leases = await newLeases(1_500);
    await awaitSteps(
      store.db,
      leases.map((of) => waiting({}, of)),
    );
    const outcome = await publish();
    const reached = (await Promise.all([spreadAll(50), spreadAll(50), spreadAll(50)])).flat();
    expect(reached).toHaveLength(500);
    expect(new Set([...outcome.reached.map(({ runId }) => runId), ...reached]).size).toBe(1_500);
  });

  it('waits and publications of many connections at once meet', async () => {
    const leases = await newLeases(60);
    const keyOf = (index: number) => (index % 3 === 0 ? {} : { key: `k${index % 4}` });
    await Promise.all([
      ...leases.map((of, index) => awaitSteps(store.db, [waiting({ ...keyOf(index), lookBackMs: 600_000 }, of)])),
      ...Array.from({ length: 4 }, (_, index) => publish({ key: `k${index}`, payload: text(`k${index}`) })),
    ]);
    await spreadAll();
    const rows = await store.database.sql<{ status: string; awaits: string; output: Uint8Array }[]>`
      select status, awaits, output from perdure.step_runs where kind = 'EVENT' and awaits::jsonb->>'name' = ${name}`;
    expect(rows).toHaveLength(60);
    expect(rows.filter(({ status }) => status !== 'COMPLETED')).toEqual([]);
    for (const { awaits, output } of rows) {
      const { key } = JSON.parse(awaits) as EventWait;
      if (key !== undefined) expect(textOf({ data: output })).toBe(key);
    }
  });

  it('a timeout ends the wait; the event does not change it', async () => {
    expect(await begin({}, { timeoutMs: 0 })).toBe(null);
    await begin({}, { stepId: 'v', seq: 2, timeoutMs: 3_600_000 });
    await suspendRuns(store.db, [
      { ...lease, waits: [{ stepId: 'v', on: 'ARRIVAL' }], arrivalsAwaited: 1, isKept: false },
    ]);
    await store.database
      .sql`update perdure.step_runs set fires_at = now() where run_id = ${lease.runId} and step_id = 'v'`;
    await store.database.sql`update perdure.workflow_runs set wake_at = now() where run_id = ${lease.runId}`;
    await wakeSleepers(store.db, { limit: 10 });
    expect(await publish()).toMatchObject({ received: 0 });
    expect(await store.attempts(lease.runId)).toMatchObject({ 'v/1': 'TIMED_OUT' });
  });

  it('a wait that a run-level retry has taken back finds its event again', async () => {
    await begin();
    await publish();
    await take(1);
    const [retried] = await retryRunAttempts(store.db, [
      { ...lease, failure: FAILURE, retryAfterMs: 0, cut: { from: { leaseToken: 1, eventSeq: 1 }, seq: 0 } },
    ]);
    expect(retried).toMatchObject({ kind: 'retrying' });
    await wakeSleepers(store.db, { limit: 10 });
    const [next] = (await store.claim(workerId, 500)).filter(({ runId }) => runId === lease.runId);
    expect(await begin({}, { ...(next as LeaseRef), attemptNumber: 2 })).toBe('x');
  });

  it('an ended run waits no longer', async () => {
    await begin();
    await endRuns(store.db, [{ ...lease, end: 'FAILED', failure: FAILURE }]);
    expect(await publish()).toMatchObject({ received: 0, isSpread: true });
  });

  it('lists events newest first, in pages', async () => {
    for (const payload of ['1', '2', '3']) await publish({ payload: text(payload), key: payload });
    const filter = { namespace: 'default', name, key: null };
    const first = await listEvents(store.db, filter, { limit: 2, after: null, payloads: true });
    expect(first.events.map(({ payload }) => textOf(payload))).toEqual(['3', '2']);
    const second = await listEvents(store.db, filter, { limit: 2, after: first.next, payloads: false });
    expect(second).toMatchObject({ events: [{ key: '1' }], next: null });
    expect(second.events[0]).not.toHaveProperty('payload');
    const one = await listEvents(store.db, { ...filter, key: '2' }, { limit: 2, after: null, payloads: false });
    expect(one.events).toHaveLength(1);
  });
});
