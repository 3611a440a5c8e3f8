import {
  type AnswerUpdate,
  type AwaitStep,
  answeredAmong,
  answerUpdates,
  awaitSteps,
  cancelRuns,
  claimRuns,
  deleteRuns,
  endRuns,
  findAnswers,
  type LeaseRef,
  readHistory,
  readMemoOf,
  retryRunAttempts,
  type SendUpdate,
  sendUpdates,
  settleSteps,
  suspendRuns,
  takeArrivals,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const text = (value: string) => ({ data: new TextEncoder().encode(value), encoding: 'text' });
const textOf = (payload: { readonly data: Uint8Array } | null | undefined) =>
  payload == null ? null : new TextDecoder().decode(payload.data);

describe('updates', () => {
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
    const found = (await store.claim(workerId, 10)).find((candidate) => candidate.runId === runId);
    if (found === undefined) throw new Error('The run was not claimed.');
    return found;
  };
  const update = (more: Partial<SendUpdate> = {}): SendUpdate => ({
    namespace: 'default',
    runId: lease.runId,
    name: 'add',
    payload: text('x'),
    requestId: uuid(),
    sender: 'test',
    maxUnanswered: 100,
    ...more,
  });
  const waiting = (more: Partial<AwaitStep> = {}): AwaitStep => ({
    ...lease,
    stepId: 'update',
    seq: 1,
    stepKind: 'UPDATE',
    attemptNumber: 1,
    awaits: '',
    timeoutMs: null,
    eventSeq: 1,
    uncancellable: false,
    ...more,
  });
  const take = async (eventSeq: number, of = lease) => {
    const [outcome] = await takeArrivals(store.db, [{ ...of, eventSeq, dueStepIds: [] }]);
    if (outcome?.kind !== 'taken') throw new Error(`Got ${outcome?.kind}.`);
    return outcome.arrivals;
  };
  const answering = (more: Partial<AnswerUpdate> = {}): AnswerUpdate => ({
    ...lease,
    stepId: 'update',
    answer: { kind: 'COMPLETED', output: text('done') },
    ...more,
  });
  const found = async (requestId: string) => {
    const [answer] = await findAnswers(store.db, [{ namespace: 'default', runId: lease.runId, requestId }]);
    if (answer === 'deferred') throw new Error('deferred');
    return answer;
  };

  it('updates of any name are received in the order of sending, each by one step', async () => {
    const names = ['add', 'remove', 'add', 'clear'];
    for (const name of names) await sendUpdates(store.db, [update({ name, payload: text(name) })]);
    const outcomes = await awaitSteps(
      store.db,
      Array.from({ length: 5 }, (_, index) =>
        waiting({ stepId: `update#${index}`, seq: index + 1, eventSeq: index + 1 }),
      ),
    );
    expect(outcomes.map((outcome) => (outcome.kind === 'arrived' ? outcome.update?.name : outcome.kind))).toEqual([
      ...names,
      'waiting',
    ]);
    expect(outcomes.slice(0, 4).map((outcome) => outcome.kind === 'arrived' && textOf(outcome.output))).toEqual(names);
    const [repeat] = await awaitSteps(store.db, [waiting({ stepId: 'update#1', seq: 2, eventSeq: 2 })]);
    expect(repeat).toMatchObject({ kind: 'arrived', update: { name: 'remove', sender: 'test', answer: null } });
  });

  it('an update to a step that waits ends it; its worker takes it with its name, and answers once', async () => {
    await awaitSteps(store.db, [waiting()]);
    const sent = update();
    expect((await sendUpdates(store.db, [sent]))[0]).toMatchObject({
      kind: 'sent',
      seq: 1,
      effect: { kind: 'arrived', holder: { workerId } },
    });
    const arrivals = await take(1);
    expect(arrivals).toMatchObject([
      { stepId: 'update', kind: 'UPDATE', update: { name: 'add', requestId: sent.requestId, answer: null } },
    ]);
    expect(await take(1)).toEqual(arrivals);
    expect(await found(sent.requestId)).toMatchObject({ seq: 1, answer: null, hasEnded: false });
    expect(await answerUpdates(store.db, [answering()])).toEqual([{ kind: 'answered', requestId: sent.requestId }]);
    const other = answering({ answer: { kind: 'FAILED', failure: FAILURE } });
    expect(await answerUpdates(store.db, [other, answering()])).toEqual([
      { kind: 'already_answered', requestId: sent.requestId },
      { kind: 'already_answered', requestId: sent.requestId },
    ]);
    const answer = await found(sent.requestId);
    expect(answer?.answer?.kind === 'COMPLETED' && textOf(answer.answer.output)).toBe('done');
    const refs = [sent, update()];
    expect(await answeredAmong(store.db, refs)).toEqual([sent]);
    const memo = await readMemoOf(store.db, lease, ['update']);
    expect(memo).toMatchObject({
      page: { memo: [{ stepId: 'update', update: { name: 'add', answer: 'COMPLETED' } }] },
    });
  });

  it('answers that race for one update: one is recorded, and all learn that it is answered', async () => {
    await sendUpdates(store.db, [update()]);
    await awaitSteps(store.db, [waiting()]);
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        answerUpdates(store.db, [answering({ answer: { kind: 'COMPLETED', output: text(String(index)) } })]),
      ),
    );
    expect(outcomes.flat().filter(({ kind }) => kind === 'answered')).toHaveLength(1);
    expect(outcomes.flat().filter(({ kind }) => kind === 'already_answered')).toHaveLength(7);
  });

  it('a claim hands out the updates of the memo with their names and answers', async () => {
    await sendUpdates(store.db, [update({ name: 'one' }), update({ name: 'two' })]);
    await awaitSteps(store.db, [waiting(), waiting({ stepId: 'update#2', seq: 2, eventSeq: 2 })]);
    await answerUpdates(store.db, [answering({ answer: { kind: 'REFUSED', failure: FAILURE } })]);
    await store.database
      .sql`update perdure.workflow_runs set status = 'PENDING', leased_by = null, lease_expires_at = null, available_at = now(), yield_reason = 'RECLAIM' where run_id = ${lease.runId}`;
    const [outcome] = await claimRuns(
      store.db,
      { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }] },
      { memoPageBytes: 1e6, memoPageEntries: 100 },
    );
    expect(outcome?.kind === 'claimed' && outcome.claim.memo).toMatchObject([
      { stepId: 'update', update: { name: 'one', answer: 'REFUSED' } },
      { stepId: 'update#2', update: { name: 'two', answer: null } },
    ]);
  });

  it('a suspended run wakes with an update', async () => {
    await awaitSteps(store.db, [waiting()]);
    await suspendRuns(store.db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]);
    expect(await store.run(lease.runId)).toMatchObject({ status: 'WAITING' });
    expect(
      (await sendUpdates(store.db, [update(), update({ name: 'second' })])).map(
        (sent) => sent.kind === 'sent' && sent.effect.kind,
      ),
    ).toEqual(['woken', 'none']);
    expect(await store.run(lease.runId)).toMatchObject({ status: 'PENDING', has_arrivals: true });
    const [next] = await store.claim(workerId);
    expect(await take(1, next as LeaseRef)).toMatchObject([{ update: { name: 'add' } }]);
  });

  it('a request id sends once, also within one batch; a full run takes no more until some are answered', async () => {
    const requestId = uuid();
    const twice = await sendUpdates(store.db, [update({ requestId }), update({ requestId })]);
    expect(twice).toMatchObject([{ kind: 'sent', seq: 1 }, { kind: 'already_sent' }]);
    expect((await sendUpdates(store.db, [update({ requestId })]))[0]).toEqual({ kind: 'already_sent' });
    const many = await sendUpdates(
      store.db,
      Array.from({ length: 4 }, () => update({ maxUnanswered: 3 })),
    );
    expect(many.map(({ kind }) => kind)).toEqual(['sent', 'sent', 'too_many_updates', 'too_many_updates']);
    await awaitSteps(store.db, [waiting()]);
    await answerUpdates(store.db, [answering()]);
    expect((await sendUpdates(store.db, [update({ maxUnanswered: 3 })]))[0]).toMatchObject({ kind: 'sent', seq: 4 });
  });

  it('a repeat beside a first one that is refused is refused too, and not taken for sent', async () => {
    const full = await sendUpdates(store.db, [
      update({ maxUnanswered: 1 }),
      update({ requestId: 'r', maxUnanswered: 1 }),
      update({ requestId: 'r', maxUnanswered: 1 }),
    ]);
    expect(full.map(({ kind }) => kind)).toEqual(['sent', 'too_many_updates', 'too_many_updates']);
    await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    const closed = await sendUpdates(store.db, [update({ requestId: 'q' }), update({ requestId: 'q' })]);
    expect(closed.map(({ kind }) => kind)).toEqual(['run_closed', 'run_closed']);
  });

  it('what is not answered when the run ends stays so: no answer and no further update is taken', async () => {
    const [answered, received, unreceived] = [update(), update(), update()];
    await sendUpdates(store.db, [answered, received, unreceived]);
    await awaitSteps(store.db, [waiting(), waiting({ stepId: 'update#2', seq: 2, eventSeq: 2 })]);
    await answerUpdates(store.db, [answering()]);
    await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: true }]);
    expect(await answerUpdates(store.db, [answering({ stepId: 'update#2' })])).toEqual([{ kind: 'lease_lost' }]);
    expect(await sendUpdates(store.db, [update(), answered])).toEqual([
      { kind: 'run_closed', status: 'COMPLETED' },
      { kind: 'already_sent' },
    ]);
    expect(await found(answered.requestId)).toMatchObject({ hasEnded: true, answer: { kind: 'COMPLETED' } });
    for (const lost of [received, unreceived]) {
      expect(await found(lost.requestId)).toMatchObject({ hasEnded: true, status: 'COMPLETED', answer: null });
    }
  });

  it('only the lease that holds the run answers, and only for a step that has received an update', async () => {
    await sendUpdates(store.db, [update()]);
    await awaitSteps(store.db, [waiting()]);
    expect(await answerUpdates(store.db, [answering({ leaseToken: lease.leaseToken + 1 })])).toEqual([
      { kind: 'lease_lost' },
    ]);
    expect(await answerUpdates(store.db, [answering({ namespace: 'elsewhere' })])).toEqual([{ kind: 'run_not_found' }]);
    expect(await answerUpdates(store.db, [answering({ stepId: 'other' })])).toEqual([{ kind: 'update_not_found' }]);
    expect((await sendUpdates(store.db, [update({ namespace: 'elsewhere' })]))[0]).toEqual({ kind: 'run_not_found' });
  });

  it('after a retry of the run, updates that were taken back are received again, in the order of sending, except refused ones', async () => {
    const sent = ['a', 'b', 'c', 'd'].map((name) => update({ name }));
    await sendUpdates(store.db, sent);
    await awaitSteps(
      store.db,
      sent.map((_, index) => waiting({ stepId: `update#${index}`, seq: index + 1, eventSeq: index + 1 })),
    );
    await answerUpdates(store.db, [
      answering({ stepId: 'update#1' }),
      answering({ stepId: 'update#2', answer: { kind: 'REFUSED', failure: FAILURE } }),
    ]);
    await retryRunAttempts(store.db, [
      {
        ...lease,
        failure: FAILURE,
        retryAfterMs: 0,
        cut: { from: { leaseToken: lease.leaseToken, eventSeq: 9 }, seq: 1 },
      },
    ]);
    await store.database
      .sql`update perdure.workflow_runs set status = 'PENDING', wake_at = null, available_at = now() where run_id = ${lease.runId}`;
    const [next] = await store.claim(workerId);
    const again = await awaitSteps(
      store.db,
      [1, 2, 3].map((index) =>
        waiting({
          ...(next as LeaseRef),
          stepId: `update#${index}`,
          seq: index + 1,
          eventSeq: index,
          attemptNumber: 2,
        }),
      ),
    );
    expect(again).toMatchObject([
      { kind: 'arrived', update: { name: 'b', answer: 'COMPLETED' } },
      { kind: 'arrived', update: { name: 'd', answer: null } },
      { kind: 'waiting' },
    ]);
    const answers = [1, 2].map((index) => answering({ ...(next as LeaseRef), stepId: `update#${index}` }));
    expect((await answerUpdates(store.db, answers)).map(({ kind }) => kind)).toEqual(['already_answered', 'answered']);
  });

  it('a cancel request ends the wait for updates', async () => {
    await awaitSteps(store.db, [waiting()]);
    await cancelRuns(store.db, [{ namespace: 'default', runId: lease.runId, reason: '' }]);
    const settle = {
      ...lease,
      stepId: 'update',
      seq: 1,
      stepKind: 'UPDATE' as const,
      attemptNumber: 1,
      status: 'CANCELLED' as const,
      eventSeq: 5,
    };
    expect((await settleSteps(store.db, [settle]))[0]).toMatchObject({ kind: 'settled' });
    expect((await sendUpdates(store.db, [update()]))[0]).toMatchObject({ kind: 'sent', effect: { kind: 'none' } });
  });

  it('the history names the update and who sent it', async () => {
    await sendUpdates(store.db, [update({ sender: 'web-1' })]);
    await awaitSteps(store.db, [waiting(), waiting({ stepId: 'update#2', seq: 2 })]);
    const { steps } = await readHistory(store.db, lease.runId, { limit: 10, after: null, payloads: false });
    expect(steps).toMatchObject([
      { stepId: 'update', awaits: 'add', sender: 'web-1' },
      { stepId: 'update#2', awaits: '', status: 'RUNNING' },
    ]);
  });

  it('deleting a run deletes its updates, its signals and its state', async () => {
    await sendUpdates(store.db, [update(), update()]);
    await terminateRuns(store.db, [{ namespace: 'default', runId: lease.runId, reason: '' }]);
    expect(await deleteRuns(store.db, [lease])).toEqual([{ kind: 'deleted' }]);
    const [left] = await store.database
      .sql`select count(*)::int as n from perdure.run_updates where run_id = ${lease.runId}`;
    expect(left).toEqual({ n: 0 });
  });

  it('updates and waits of many connections at once meet: each update is received once, in order', async () => {
    const count = 150;
    await Promise.all([
      (async () => {
        for (let n = 0; n < count; n++) {
          await awaitSteps(store.db, [waiting({ stepId: `s${n}`, seq: n + 1, eventSeq: n + 1 })]);
        }
      })(),
      (async () => {
        for (let n = 0; n < count; n++)
          await sendUpdates(store.db, [update({ payload: text(String(n)), maxUnanswered: 1_000 })]);
      })(),
    ]);
    const rows = await store.database.sql<{ output: Uint8Array; n: number }[]>`
      select s.output, u.seq as n from perdure.step_runs s
      join perdure.run_updates u on u.run_id = s.run_id and u.step_id = s.step_id
      where s.run_id = ${lease.runId} order by s.seq`;
    expect(rows.map(({ n }) => n)).toEqual(Array.from({ length: count }, (_, index) => index + 1));
    expect(rows.map(({ output }) => textOf({ data: output }))).toEqual(
      Array.from({ length: count }, (_, index) => String(index)),
    );
  });
});
