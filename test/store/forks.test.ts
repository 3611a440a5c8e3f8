import {
  awaitSteps,
  cancelRuns,
  claimRuns,
  deleteRuns,
  endRuns,
  type ForkRun,
  type ForkRunOutcome,
  failSteps,
  forkRuns,
  getStepAttempt,
  type LeaseRef,
  observeCancels,
  readHistory,
  recordSteps,
  retryRunAttempts,
  sendSignals,
  sendUpdates,
  settleSteps,
  takeArrivals,
  terminateRuns,
  wakeSleepers,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { beginCommand, FAILURE, openTestStore, type TestStore } from '../support/store.js';

const namespace = 'default';
const LARGE = 10_000;
const output = (bytes: number, fill = 'x') => ({ data: Buffer.alloc(bytes, fill), encoding: 'bytes' });
const textOf = (payload: { readonly data: Uint8Array } | null | undefined) =>
  payload === null || payload === undefined
    ? null
    : Buffer.from(payload.data).toString().slice(0, 1) + payload.data.length;

describe('a fork', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  afterEach(async () => {
    const open = await store.database.sql<{ run_id: string }[]>`
      select run_id from perdure.workflow_runs where finished_at is null`;
    for (const { run_id } of open) await end(run_id);
  });

  const claimed = async (): Promise<LeaseRef> => {
    await store.start();
    const [lease] = await store.claim(workerId);
    return lease as LeaseRef;
  };
  /** Steps s1, s2, … with outputs of these sizes. */
  const record = async (lease: LeaseRef, sizes: readonly number[], from = 1) =>
    recordSteps(
      store.db,
      sizes.map((size, index) => ({
        ...beginCommand(lease, { stepId: `s${index + from}`, seq: index + from }),
        output: output(size, String((index + from) % 10)),
        eventSeq: index + from + 1,
      })),
    );
  const fork = async (runId: string, stepId: string, more: Partial<ForkRun> = {}): Promise<ForkRunOutcome> => {
    const action = { namespace, actor: 'ada', reason: 'to look at it', requestId: null };
    const [outcome] = await forkRuns(store.db, [{ ...action, runId, stepId, workflowId: null, input: null, ...more }]);
    return outcome as ForkRunOutcome;
  };
  const forked = async (runId: string, stepId: string, more: Partial<ForkRun> = {}) => {
    const outcome = await fork(runId, stepId, more);
    if (outcome.kind !== 'forked') throw new Error(outcome.kind);
    return outcome;
  };
  const end = async (runId: string) => {
    await terminateRuns(store.db, [{ namespace, runId, reason: '' }]);
  };
  const remove = async (runId: string) => (await deleteRuns(store.db, [{ namespace, runId }]))[0]?.kind;
  const memoOf = async (runId: string) => {
    const [claim] = await claimRuns(
      store.db,
      { namespace, taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }] },
      { memoPageBytes: 1e6, memoPageEntries: 100 },
    );
    if (claim?.kind !== 'claimed') throw new Error('nothing to claim');
    expect(claim.claim.run.runId).toBe(runId);
    return claim.claim;
  };
  const contents = (claim: Awaited<ReturnType<typeof memoOf>>) =>
    claim.memo.map((entry) => `${entry.stepId} ${textOf(entry.output)}`);
  const stepsOf = async (runId: string) => {
    const [row] = await store.database.sql`
      select count(*)::int as steps, count(*) filter (where output is not null)::int as outputs
      from perdure.step_runs where run_id = ${runId}`;
    return row;
  };

  it('has the steps before the one it begins with, in their order, and reads large payloads from its origin', async () => {
    const lease = await claimed();
    await record(lease, [LARGE, 10, LARGE, LARGE]);
    const { runId, keptSteps, workflowId } = await forked(lease.runId, 's4');
    expect([keptSteps, workflowId]).toEqual([3, `${lease.runId}/fork-1`]);
    expect(runId.slice(18)).toBe(lease.runId.slice(18));
    const rows = await store.database.sql`
      select step_id, octet_length(output) as bytes, payload_run_id, payload_bytes from perdure.step_runs
      where run_id = ${runId} order by seq`;
    expect(rows).toEqual([
      { step_id: 's1', bytes: null, payload_run_id: lease.runId, payload_bytes: LARGE },
      { step_id: 's2', bytes: 10, payload_run_id: null, payload_bytes: null },
      { step_id: 's3', bytes: null, payload_run_id: lease.runId, payload_bytes: LARGE },
    ]);
    const claim = await memoOf(runId);
    expect(claim.run.leaseToken).toBe(lease.leaseToken + 1);
    expect(contents(claim)).toEqual([`s1 1${LARGE}`, 's2 210', `s3 3${LARGE}`]);
    expect(claim.memo.map(({ leaseToken, eventSeq, attemptNumber }) => [leaseToken, eventSeq, attemptNumber])).toEqual([
      [1, 2, 1],
      [1, 3, 1],
      [1, 4, 1],
    ]);
    const { steps } = await readHistory(store.db, runId, { limit: 10, after: null, payloads: true });
    expect(steps.map((step) => textOf(step.output))).toEqual([`1${LARGE}`, '210', `3${LARGE}`]);
    expect(textOf((await getStepAttempt(store.db, runId, 's3', 0))?.output)).toBe(`3${LARGE}`);
    expect(await store.run(runId)).toMatchObject({ origin_run_id: lease.runId, origin_kind: 'FORK' });
    const [action] = await store.database.sql`select * from perdure.run_actions where run_id = ${lease.runId}`;
    expect(action).toMatchObject({ kind: 'FORK', actor: 'ada', detail: { runId, stepId: 's4', keptSteps: 3 } });
    await end(runId);
    await end(lease.runId);
  });

  it('of a fork reads from where the payloads are, and pages of its memo are bounded by their sizes', async () => {
    const lease = await claimed();
    await record(lease, [LARGE, LARGE, LARGE]);
    const first = await forked(lease.runId, 's3');
    await end(lease.runId);
    const held = await store.claim(workerId);
    await record(held[0] as LeaseRef, [LARGE, LARGE], 3);
    const second = await forked(first.runId, 's4');
    await end(first.runId);
    const owners = await store.database.sql`
      select step_id, payload_run_id from perdure.step_runs where run_id = ${second.runId} order by seq`;
    expect(owners.map((row) => row.payload_run_id)).toEqual([lease.runId, lease.runId, first.runId]);
    const limits = { memoPageBytes: LARGE * 2.5, memoPageEntries: 100 };
    const slots = { namespace, taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }] };
    const [claim] = await claimRuns(store.db, slots, limits);
    expect(claim).toMatchObject({
      claim: { memo: [{ stepId: 's1' }, { stepId: 's2' }], nextMemoCursor: { entries: 2 } },
    });
    await end(second.runId);
  });

  it('keeps its payloads when its origin is deleted, and the last fork takes the rest of them with it', async () => {
    const lease = await claimed();
    await record(lease, [LARGE, 10, LARGE, LARGE, LARGE]);
    const first = await forked(lease.runId, 's3');
    const second = await forked(first.runId, 's2');
    const third = await forked(lease.runId, 's4');
    await end(lease.runId);
    expect(await remove(lease.runId)).toBe('deleted');
    expect(await store.database.sql`select 1 from perdure.workflow_runs where run_id = ${lease.runId}`).toHaveLength(0);
    // s1 and s3: s2 was copied, s4 and s5 belong to no fork.
    expect(await stepsOf(lease.runId)).toEqual({ steps: 2, outputs: 2 });
    for (const fork of [first, second, third]) {
      const { steps } = await readHistory(store.db, fork.runId, { limit: 10, after: null, payloads: true });
      expect(steps.map((step) => textOf(step.output))).toEqual(
        [`1${LARGE}`, '210', `3${LARGE}`].slice(0, fork.keptSteps),
      );
      await end(fork.runId);
    }
    expect(await remove(third.runId)).toBe('deleted');
    expect(await stepsOf(lease.runId)).toEqual({ steps: 1, outputs: 1 });
    expect(await remove(first.runId)).toBe('deleted');
    expect(await stepsOf(lease.runId)).toEqual({ steps: 1, outputs: 1 });
    expect(textOf((await getStepAttempt(store.db, second.runId, 's1', 0))?.output)).toBe(`1${LARGE}`);
    expect(await remove(second.runId)).toBe('deleted');
    for (const { runId } of [lease, first, second, third]) {
      expect(await stepsOf(runId)).toEqual({ steps: 0, outputs: 0 });
    }
    expect(
      await store.database.sql`select 1 from perdure.fork_payloads where owner_run_id = ${lease.runId}`,
    ).toHaveLength(0);
  });

  it('and its origin are deleted in one batch, in any order, with nothing left', async () => {
    const lease = await claimed();
    await record(lease, [LARGE, LARGE]);
    const { runId } = await forked(lease.runId, 's2');
    await end(lease.runId);
    await end(runId);
    const commands = [runId, lease.runId].map((id) => ({ namespace, runId: id }));
    expect((await deleteRuns(store.db, commands)).map(({ kind }) => kind)).toEqual(['deleted', 'deleted']);
    expect(await stepsOf(lease.runId)).toEqual({ steps: 0, outputs: 0 });
    expect(
      await store.database.sql`select 1 from perdure.fork_payloads where owner_run_id = ${lease.runId}`,
    ).toHaveLength(0);
  });

  it('that cannot be deleted in one statement returns all that it uses', async () => {
    const lease = await claimed();
    const many = 12_000;
    await store.database.sql`
      insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, counted_attempt, lease_token, started_at, finished_at,
        event_seq, output, output_encoding)
      select ${lease.runId}::uuid, 's' || n, 1, n, 'FUNCTION', 'COMPLETED', 1, 1, now(), now(), n, convert_to(repeat('x', 300), 'utf8'), 'bytes'
      from generate_series(1, ${many}::int) n`;
    const { runId, keptSteps } = await forked(lease.runId, `s${many}`);
    expect(keptSteps).toBe(many - 1);
    await end(lease.runId);
    await end(runId);
    expect(await remove(lease.runId)).toBe('deleted');
    expect(await stepsOf(lease.runId)).toEqual({ steps: many - 1, outputs: many - 1 });
    expect(await remove(runId)).toBe('deleted');
    expect(await stepsOf(lease.runId)).toEqual({ steps: 0, outputs: 0 });
    expect(await stepsOf(runId)).toEqual({ steps: 0, outputs: 0 });
  });

  it('has no open steps, no failures that are retried, and nothing of what a retry has taken back', async () => {
    const lease = await claimed();
    await record(lease, [10]);
    await store.begin(lease, { stepId: 'open', seq: 2 });
    await store.begin(lease, { stepId: 'retried', seq: 3 });
    const failed = { ...lease, attemptNumber: 1, failure: FAILURE };
    await failSteps(store.db, [{ ...failed, stepId: 'retried', retryAfterMs: 1, eventSeq: 0 }]);
    await store.begin(lease, { stepId: 'caught', seq: 4 });
    await failSteps(store.db, [{ ...failed, stepId: 'caught', retryAfterMs: null, eventSeq: 3 }]);
    await record(lease, [10], 5);
    const { runId } = await forked(lease.runId, 's5');
    expect(await store.attempts(runId)).toEqual({ 's1/1': 'COMPLETED', 'caught/1': 'FAILED APPLICATION' });
    const cut = { from: { leaseToken: lease.leaseToken, eventSeq: 3 }, seq: 4 };
    await retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 3_600_000, cut }]);
    expect(await fork(lease.runId, 's5')).toEqual({ kind: 'step_not_found' });
    expect(await store.attempts((await forked(lease.runId, 'caught')).runId)).toEqual({ 's1/1': 'COMPLETED' });
  });

  it('continues where the code learned of a cancel, which it does not have itself', async () => {
    const lease = await claimed();
    await record(lease, [10]);
    await cancelRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
    const settled = { ...lease, stepId: 'cancelled', seq: 2, stepKind: 'FUNCTION', attemptNumber: 0 } as const;
    await settleSteps(store.db, [{ ...settled, status: 'CANCELLED', eventSeq: 3 }]);
    await observeCancels(store.db, [{ ...lease, eventSeq: 4 }]);
    const clean = {
      ...beginCommand(lease, { stepId: 'clean', seq: 3, uncancellable: true }),
      output: null,
      eventSeq: 5,
    };
    await recordSteps(store.db, [clean, { ...clean, stepId: 'last', seq: 4, eventSeq: 6 }]);
    await endRuns(store.db, [{ ...lease, end: 'CANCELLED' }]);
    const { runId } = await forked(lease.runId, 'last');
    expect(await store.attempts(runId)).toEqual({ 's1/1': 'COMPLETED' });
    expect(await store.run(runId)).toMatchObject({ status: 'PENDING', cancel_requested_at: null });
    await end(runId);
  });

  it('has the signals and updates that its steps have received, whose payloads are there again when they are received again', async () => {
    const lease = await claimed();
    const wait = { attemptNumber: 1, timeoutMs: null, eventSeq: 1, uncancellable: false } as const;
    await awaitSteps(store.db, [
      { ...lease, ...wait, stepKind: 'SIGNAL', stepId: 'got', seq: 1, awaits: 'go' },
      { ...lease, ...wait, stepKind: 'UPDATE', stepId: 'update', seq: 2, awaits: '' },
    ]);
    const { runId: origin } = lease;
    const sent = { namespace, runId: origin, payload: output(LARGE, 'p'), sender: 'ada' };
    await sendSignals(store.db, [{ ...sent, name: 'go', requestId: 'r', maxUnconsumed: 10 }]);
    await sendSignals(store.db, [{ ...sent, name: 'go', requestId: null, maxUnconsumed: 10 }]);
    await sendUpdates(store.db, [{ ...sent, name: 'u', requestId: 'r', maxUnanswered: 10 }]);
    await takeArrivals(store.db, [{ ...lease, eventSeq: 2, dueStepIds: [] }]);
    await record(lease, [10], 3);
    const { runId } = await forked(origin, 's3');
    await end(origin);
    expect(await remove(origin)).toBe('deleted');
    const messages = await store.database.sql`
      select 'signal' as what, name, sender, consumed_by as step, payload is null as is_lent from perdure.signals where run_id = ${runId}
      union all
      select 'update', name, sender, step_id, payload is null from perdure.run_updates where run_id = ${runId}
      order by what`;
    expect(messages).toEqual([
      { what: 'signal', name: 'go', sender: 'ada', step: 'got', is_lent: true },
      { what: 'update', name: 'u', sender: 'ada', step: 'update', is_lent: true },
    ]);
    const { memo, run } = await memoOf(runId);
    expect(memo).toMatchObject([{ stepId: 'got' }, { stepId: 'update', update: { name: 'u', requestId: 'r' } }]);
    // The run is retried from before it had received them.
    const next = { namespace, runId, leaseToken: run.leaseToken };
    const cut = { from: { leaseToken: 1, eventSeq: 1 }, seq: 0 };
    await retryRunAttempts(store.db, [{ ...next, failure: FAILURE, retryAfterMs: 0, cut }]);
    await wakeSleepers(store.db, { limit: 10 });
    const [again] = (await store.claim(workerId)) as [LeaseRef];
    const received = await awaitSteps(store.db, [
      { ...again, ...wait, stepKind: 'SIGNAL', stepId: 'got', seq: 1, awaits: 'go', attemptNumber: 2, eventSeq: 2 },
      { ...again, ...wait, stepKind: 'UPDATE', stepId: 'update', seq: 2, awaits: '', attemptNumber: 2, eventSeq: 3 },
    ]);
    expect(received.map((outcome) => (outcome.kind === 'arrived' ? textOf(outcome.output) : outcome.kind))).toEqual([
      `p${LARGE}`,
      `p${LARGE}`,
    ]);
    await end(runId);
    expect(await remove(runId)).toBe('deleted');
    expect(await stepsOf(origin)).toEqual({ steps: 0, outputs: 0 });
  });

  it('with another input and workflow id; a repeat with the same request id is the same fork', async () => {
    const lease = await claimed();
    await record(lease, [10, 10]);
    const more = { workflowId: uuid(), requestId: uuid(), input: { value: output(3, 'i') } };
    const { runId } = await forked(lease.runId, 's2', more);
    expect(await store.run(runId)).toMatchObject({ workflow_id: more.workflowId, input: Buffer.from('iii') });
    expect(await fork(lease.runId, 's2', more)).toEqual({
      kind: 'already_forked',
      runId,
      workflowId: more.workflowId,
      keptSteps: 1,
    });
    expect(await fork(lease.runId, 's2', { workflowId: more.workflowId })).toEqual({
      kind: 'workflow_id_taken',
      runId,
      workflowId: more.workflowId,
    });
    const { runId: without } = await forked(lease.runId, 's1', { input: { value: null } });
    expect(await store.run(without)).toMatchObject({ input: null, workflow_id: `${lease.runId}/fork-2` });
    for (const id of [runId, without, lease.runId]) await end(id);
  });

  it('of a run that was compensated, or is, is refused', async () => {
    const lease = await claimed();
    await record(lease, [10]);
    for (const compensation of ['COMPENSATING', 'COMPLETE', 'PARTIAL']) {
      if (compensation !== 'COMPENSATING') await end(lease.runId);
      await store.database
        .sql`update perdure.workflow_runs set compensation = ${compensation} where run_id = ${lease.runId}`;
      expect(await fork(lease.runId, 's1')).toMatchObject({ kind: 'wrong_state' });
    }
  });
});
