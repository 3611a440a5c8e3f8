import {
  beginSteps,
  cancelRuns,
  claimRuns,
  closeChildren,
  deleteRuns,
  endRuns,
  expireRuns,
  type LeaseRef,
  listRuns,
  readRunTree,
  retryRunAttempts,
  type StartChild,
  settleSteps,
  startChildren,
  startIdentity,
  suspendRuns,
  takeArrivals,
  tellParents,
  terminateRuns,
  unclosedParents,
  untoldChildren,
  wakeSleepers,
} from '@perdure/store';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { beginCommand, FAILURE, openTestStore, type TestStore } from '../support/store.js';

const text = (value: string) => ({ data: new TextEncoder().encode(value), encoding: 'text' });
const textOf = (payload: { readonly data: Uint8Array } | null | undefined) =>
  payload == null ? null : new TextDecoder().decode(payload.data);

describe('children', () => {
  let store: TestStore;
  let workerId: string;
  let parent: LeaseRef;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  beforeEach(async () => {
    parent = await leaseOf((await store.start())[0] as string);
  });

  const claimed = new Map<string, LeaseRef>();
  /** Claims run after run until it has this one. */
  const leaseOf = async (runId: string): Promise<LeaseRef> => {
    for (;;) {
      const found = claimed.get(runId);
      if (found !== undefined) {
        claimed.delete(runId);
        return found;
      }
      const [lease] = await store.claim(workerId, 1);
      if (lease === undefined) throw new Error(`Run ${runId} cannot be claimed.`);
      claimed.set(lease.runId, lease);
    }
  };
  const child = (n: number, more: Partial<StartChild> = {}): StartChild => ({
    ...parent,
    stepId: `c${n}`,
    seq: n,
    attemptNumber: 1,
    eventSeq: n,
    uncancellable: false,
    childRunId: startIdentity('default', '').runId,
    workflowId: null,
    workflowType: 'w',
    taskQueue: null,
    priority: null,
    build: null,
    reusePolicy: 'ALLOW',
    parentClose: 'CANCEL',
    startDelayMs: 0,
    runTimeoutMs: 0,
    executionTimeoutMs: 0,
    maxLostLeases: 10,
    input: null,
    ...more,
  });
  const start = async (count = 1, more: Partial<StartChild> = {}): Promise<string[]> => {
    const outcomes = await startChildren(
      store.db,
      Array.from({ length: count }, (_, index) => child(index + 1, more)),
    );
    return outcomes.map((outcome) => {
      if (outcome.kind !== 'started') throw new Error(`Got ${outcome.kind}.`);
      return outcome.childRunId;
    });
  };
  const complete = async (runId: string, output = 'out') => {
    const lease = await leaseOf(runId);
    return endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: text(output), hasOpenSteps: false }]);
  };
  const suspend = (childrenAwaited = 1, of = parent) =>
    suspendRuns(store.db, [{ ...of, waits: [], arrivalsAwaited: 1, childrenAwaited, isKept: false }]);
  /** What the claim of a suspended parent has taken. */
  const takenBy = async ({ runId, leaseToken }: LeaseRef) => {
    const rows = await store.database.sql<{ step_id: string }[]>`
      select step_id from perdure.step_runs where run_id = ${runId} and lease_token = ${leaseToken} and event_seq = 1 order by seq`;
    return rows.map((row) => row.step_id);
  };
  const take = async (eventSeq: number, of = parent) => {
    const [outcome] = await takeArrivals(store.db, [{ ...of, eventSeq, dueStepIds: [] }]);
    if (outcome?.kind !== 'taken') throw new Error(`Got ${outcome?.kind}.`);
    return outcome.arrivals;
  };

  it('a child is a run of its own: it has what its parent has, unless said otherwise', async () => {
    const [outcome] = await startChildren(store.db, [child(1, { input: text('in') })]);
    if (outcome?.kind !== 'started') throw new Error(`Got ${outcome?.kind}.`);
    const { childRunId } = outcome;
    expect(await store.run(childRunId)).toMatchObject({
      status: 'PENDING',
      task_queue: 'q',
      workflow_id: `${parent.runId}/c1`,
      parent_run_id: parent.runId,
      parent_step_id: 'c1',
      parent_close: 'CANCEL',
    });
    expect(await store.run(parent.runId)).toMatchObject({ has_children: true });
    await startChildren(store.db, [
      child(2, {
        workflowId: 'other',
        taskQueue: 'elsewhere',
        priority: 5,
        startDelayMs: 60_000,
        parentClose: 'ABANDON',
      }),
    ]);
    const { runs } = await listRuns(
      store.db,
      {
        namespace: 'default',
        statuses: [],
        workflowType: null,
        taskQueue: null,
        workflowId: null,
        build: null,
        parentRunId: parent.runId,
        held: false,
        paused: false,
        unresolved: false,
        failureFingerprint: null,
        compensation: null,
        createdAfter: null,
        createdBefore: null,
      },
      { limit: 10, after: null },
    );
    expect(runs).toMatchObject([
      {
        workflowId: 'other',
        taskQueue: 'elsewhere',
        priority: 5,
        status: 'SLEEPING',
        parent: { runId: parent.runId, stepId: 'c2', close: 'ABANDON' },
      },
      { runId: childRunId },
    ]);
  });

  it('a repeat starts no second child, also within one batch', async () => {
    const command = child(1);
    const [first, second] = await startChildren(store.db, [
      command,
      { ...command, childRunId: startIdentity('default', '').runId },
    ]);
    expect(first).toMatchObject({ kind: 'started', childRunId: command.childRunId });
    expect(second).toMatchObject({ kind: 'waiting', childRunId: command.childRunId });
    expect((await readRunTree(store.db, parent.runId, 10)).nodes).toHaveLength(2);
  });

  it('a workflow id that is taken fails the step, with its place, and starts nothing', async () => {
    const taken = child(1, { workflowId: 'taken', parentClose: 'ABANDON' });
    await startChildren(store.db, [taken]);
    const again = child(2, { workflowId: 'taken', eventSeq: 7 });
    const [refused, free] = await startChildren(store.db, [again, child(3)]);
    expect(refused).toMatchObject({
      kind: 'arrived',
      childRunId: null,
      status: 'FAILED',
      failure: { reason: 'CHILD_NOT_STARTED', message: expect.stringContaining("'taken'") },
    });
    expect(free).toMatchObject({ kind: 'started' });
    expect((await startChildren(store.db, [again]))[0]).toEqual(refused);
    const [row] = await store.database.sql`
      select event_seq from perdure.step_runs where run_id = ${parent.runId} and step_id = 'c2'`;
    expect(row).toEqual({ event_seq: 7 });
    await complete(taken.childRunId);
    expect(
      (await startChildren(store.db, [child(4, { workflowId: 'taken', reusePolicy: 'REJECT' })]))[0],
    ).toMatchObject({
      kind: 'arrived',
    });
    expect(
      (await startChildren(store.db, [child(5, { workflowId: 'taken', reusePolicy: 'ALLOW_IF_FAILED' })]))[0],
    ).toMatchObject({ kind: 'arrived' });
    expect((await startChildren(store.db, [child(6, { workflowId: 'taken' })]))[0]).toMatchObject({ kind: 'started' });
  });

  it('an old lease, another namespace and a run that is being cancelled start nothing', async () => {
    expect(await startChildren(store.db, [child(1, { leaseToken: 0 })])).toEqual([{ kind: 'lease_lost' }]);
    expect(await startChildren(store.db, [child(1, { namespace: 'x' })])).toEqual([{ kind: 'run_not_found' }]);
    await beginSteps(store.db, [beginCommand(parent, { stepId: 'c9', seq: 9 })]);
    expect((await startChildren(store.db, [child(9)]))[0]).toMatchObject({
      kind: 'step_mismatch',
      recordedKind: 'FUNCTION',
    });
    expect((await startChildren(store.db, [child(1, { attemptNumber: 2 })]))[0]).toMatchObject({
      kind: 'wrong_attempt',
    });
    await cancelRuns(store.db, [{ namespace: 'default', runId: parent.runId, reason: '' }]);
    expect(await startChildren(store.db, [child(1)])).toEqual([{ kind: 'cancel_requested' }]);
    expect((await startChildren(store.db, [child(1, { uncancellable: true })]))[0]).toMatchObject({ kind: 'started' });
    expect((await readRunTree(store.db, parent.runId, 10)).nodes).toHaveLength(2);
  });

  it('the end of a child ends the step of its parent, which its worker takes', async () => {
    const [id] = (await start()) as [string];
    const [ended] = await complete(id, 'result');
    expect(ended).toEqual({ kind: 'ended', relatives: { hasParent: true, hasChildren: false } });
    expect(await tellParents(store.db, [id])).toMatchObject([
      { runId: parent.runId, effect: { kind: 'arrived', holder: { workerId } } },
    ]);
    const [arrival] = await take(1);
    expect(arrival).toMatchObject({ stepId: 'c1', status: 'COMPLETED' });
    expect(textOf(arrival?.output)).toBe('result');
    expect(await tellParents(store.db, [id])).toEqual([]);
  });

  it.each([
    ['FAILED', 'CHILD_FAILED', { type: 'Error', message: 'm' }],
    ['CANCELLED', 'CHILD_CANCELLED', undefined],
    ['TERMINATED', 'CHILD_TERMINATED', { reason: 'TERMINATED' }],
  ])(
    'a child that ends as %s fails the step: the failure names the child, and its cause is the failure of the child',
    async (status, reason, cause) => {
      const [id] = (await start()) as [string];
      const who = { namespace: 'default', runId: id, reason: 'because' };
      if (status === 'FAILED') {
        await endRuns(store.db, [{ ...(await leaseOf(id)), end: 'FAILED', failure: FAILURE }]);
      } else if (status === 'CANCELLED') {
        expect((await cancelRuns(store.db, [who]))[0]).toMatchObject({ relatives: { hasParent: true } });
      } else {
        expect((await terminateRuns(store.db, [who]))[0]).toMatchObject({ relatives: { hasParent: true } });
      }
      await tellParents(store.db, [id]);
      const [arrival] = await take(1);
      expect(arrival).toMatchObject({
        status: 'FAILED',
        failure: {
          reason,
          message: expect.stringContaining(id),
          child: { runId: id, workflowId: `${parent.runId}/c1`, workflowType: 'w' },
          ...(cause === undefined ? {} : { cause }),
        },
      });
    },
  );

  it('a suspended parent that awaits one child wakes with its end', async () => {
    const [id] = (await start()) as [string];
    expect(await suspend()).toMatchObject([{ kind: 'suspended' }]);
    await complete(id);
    expect(await tellParents(store.db, [id])).toMatchObject([
      { effect: { kind: 'woken', queue: { taskQueue: 'q' }, workflowType: 'w' } },
    ]);
    expect(await takenBy(await leaseOf(parent.runId))).toEqual(['c1']);
  });

  it('a parent that awaits many wakes once for many ends: when all have ended, or some time after the first', async () => {
    const ids = await start(4);
    await suspend(4);
    for (const id of ids.slice(0, 3)) await complete(id);
    const [first] = await tellParents(store.db, ids.slice(0, 1));
    expect(first?.effect).toMatchObject({ kind: 'wakes' });
    const wakeAt = (await store.run(parent.runId)).wake_at;
    await tellParents(store.db, ids.slice(1, 3));
    expect(await store.run(parent.runId)).toMatchObject({ status: 'WAITING', wake_at: wakeAt, children_awaited: 1 });
    await complete(ids[3] as string);
    expect(await tellParents(store.db, ids.slice(3))).toMatchObject([{ effect: { kind: 'woken' } }]);
    const lease = await leaseOf(parent.runId);
    expect(await takenBy(lease)).toEqual(['c1', 'c2', 'c3', 'c4']);

    parent = lease;
    const more = (await startChildren(store.db, [child(5), child(6)])).map((outcome) =>
      outcome.kind === 'started' ? outcome.childRunId : '',
    );
    await suspend(2);
    await complete(more[0] as string);
    await tellParents(store.db, more);
    await store.database.sql`update perdure.workflow_runs set wake_at = now() where run_id = ${parent.runId}`;
    expect(await wakeSleepers(store.db, { limit: 10 })).toMatchObject({ woken: 1 });
    expect(await takenBy(await leaseOf(parent.runId))).toEqual(['c5']);
  });

  it('an end that comes just before the suspension refuses it', async () => {
    const [id] = (await start()) as [string];
    await complete(id);
    await tellParents(store.db, [id]);
    expect(await suspend()).toMatchObject([{ kind: 'not_suspended', hasArrivals: true }]);
  });

  it('the end of a parent closes its open children, each as its start says, and their children', async () => {
    const ids = await start(3);
    const policies = await startChildren(store.db, [
      child(4, { parentClose: 'TERMINATE' }),
      child(5, { parentClose: 'ABANDON' }),
    ]);
    const [terminated, abandoned] = policies.map((outcome) => (outcome.kind === 'started' ? outcome.childRunId : ''));
    await complete(ids[0] as string);
    const running = await leaseOf(ids[1] as string);
    const [grandchild] = await startChildren(store.db, [child(1, running)]);
    const [ended] = await endRuns(store.db, [{ ...parent, end: 'FAILED', failure: FAILURE }]);
    expect(ended).toMatchObject({ relatives: { hasParent: false, hasChildren: true } });
    const closed = await closeChildren(store.db, [parent.runId]);
    expect(new Map(closed.map(({ runId, outcome }) => [runId, outcome.kind]))).toEqual(
      new Map([
        [ids[1], 'requested'],
        [ids[2], 'cancelled'],
        [terminated, 'terminated'],
      ]),
    );
    expect(await store.run(abandoned as string)).toMatchObject({ finished_at: null, cancel_requested_at: null });
    expect(await store.run(parent.runId)).toMatchObject({ has_children: null });
    expect(await closeChildren(store.db, [parent.runId])).toEqual([]);
    expect((await endRuns(store.db, [{ ...running, end: 'CANCELLED' }]))[0]).toMatchObject({
      relatives: { hasParent: true, hasChildren: true },
    });
    expect(await closeChildren(store.db, [running.runId])).toMatchObject([
      { runId: grandchild?.kind === 'started' && grandchild.childRunId, outcome: { kind: 'cancelled' } },
    ]);
  });

  it('any end of a run says who is affected', async () => {
    await start(1);
    const [other] = (await store.start(1)) as [string];
    const plain = await leaseOf(other);
    const ends = await endRuns(store.db, [
      { ...parent, end: 'COMPLETED', output: null, hasOpenSteps: false },
      { ...plain, end: 'COMPLETED', output: null, hasOpenSteps: false },
    ]);
    expect(ends).toEqual([{ kind: 'ended', relatives: { hasParent: false, hasChildren: true } }, { kind: 'ended' }]);
  });

  it('a fast end beside a refused one says who is affected', async () => {
    await start(1);
    const ends = await endRuns(store.db, [
      { ...parent, end: 'COMPLETED', output: null, hasOpenSteps: false },
      { ...parent, runId: startIdentity('default', '').runId, end: 'COMPLETED', output: null, hasOpenSteps: false },
    ]);
    expect(ends).toMatchObject([{ kind: 'ended', relatives: { hasChildren: true } }, { kind: 'run_not_found' }]);
  });

  it('what a crash left is found: ended children that nobody told of, ended parents whose children are open', async () => {
    const old = { limit: 1_000, minAgeMs: 0 };
    const ids = await start(2, { runTimeoutMs: 1 });
    expect(await untoldChildren(store.db, old)).not.toContain(ids[0]);
    await expireRuns(store.db, { limit: 100 });
    const left = await untoldChildren(store.db, old);
    expect(left).toEqual(expect.arrayContaining(ids));
    expect(await untoldChildren(store.db, { limit: 10, minAgeMs: 3_600_000 })).toEqual([]);
    await tellParents(store.db, left);
    expect(await untoldChildren(store.db, old)).toEqual([]);
    expect(await take(1)).toHaveLength(2);
    await terminateRuns(store.db, [{ namespace: 'default', runId: parent.runId, reason: '' }]);
    expect(await unclosedParents(store.db, old)).toContain(parent.runId);
    await closeChildren(store.db, await unclosedParents(store.db, old));
    expect(await unclosedParents(store.db, old)).toEqual([]);
  });

  it.each(['cancel', 'retry'])(
    'what a crash left after a %s is found: children of steps that no longer wait',
    async (how) => {
      const old = { limit: 1_000, minAgeMs: 0 };
      const [open, kept] = (await start(2)) as [string, string];
      expect(await unclosedParents(store.db, old)).not.toContain(parent.runId);
      if (how === 'cancel') {
        await cancelRuns(store.db, [{ namespace: 'default', runId: parent.runId, reason: '' }]);
        await settleSteps(store.db, [
          { ...parent, stepId: 'c1', seq: 1, stepKind: 'CHILD', attemptNumber: 1, status: 'CANCELLED', eventSeq: 1 },
        ]);
      } else {
        const cut = { from: { leaseToken: parent.leaseToken, eventSeq: 1 }, seq: 0 };
        await retryRunAttempts(store.db, [{ ...parent, failure: FAILURE, retryAfterMs: 3_600_000, cut }]);
      }
      // The server dies here.
      expect(await unclosedParents(store.db, { limit: 10, minAgeMs: 3_600_000 })).toEqual([]);
      const left = await unclosedParents(store.db, old);
      expect(left).toEqual([parent.runId]);
      const closed = await closeChildren(store.db, left);
      expect(closed.map(({ runId }) => runId)).toEqual(how === 'cancel' ? [open] : [open, kept].sort());
      expect(await store.run(open)).toMatchObject({ status: 'CANCELLED' });
      expect(await unclosedParents(store.db, old)).toEqual([]);
    },
  );

  it('a wait that a cancel ends closes its child, and no other', async () => {
    const [first, second] = (await start(2)) as [string, string];
    await cancelRuns(store.db, [{ namespace: 'default', runId: parent.runId, reason: '' }]);
    await settleSteps(store.db, [
      { ...parent, stepId: 'c1', seq: 1, stepKind: 'CHILD', attemptNumber: 1, status: 'CANCELLED', eventSeq: 1 },
    ]);
    expect(await closeChildren(store.db, [parent.runId])).toMatchObject([
      { runId: first, outcome: { kind: 'cancelled' } },
    ]);
    expect(await store.run(second)).toMatchObject({ status: 'PENDING' });
    await tellParents(store.db, [first]);
    expect(await take(2)).toEqual([]);
    expect(await store.run(parent.runId)).toMatchObject({ has_children: true });
  });

  it('a retry of the run closes the children of steps that are cut, and starts a failed child again', async () => {
    const [failed, open] = (await start(2)) as [string, string];
    await endRuns(store.db, [{ ...(await leaseOf(failed)), end: 'FAILED', failure: FAILURE }]);
    await tellParents(store.db, [failed]);
    await take(1);
    const cut = { from: { leaseToken: parent.leaseToken, eventSeq: 1 }, seq: 1 };
    expect(await retryRunAttempts(store.db, [{ ...parent, failure: FAILURE, retryAfterMs: 0, cut }])).toMatchObject([
      { kind: 'retrying', hasChildren: true },
    ]);
    expect(await closeChildren(store.db, [parent.runId])).toMatchObject([
      { runId: open, outcome: { kind: 'cancelled' } },
    ]);
    await tellParents(store.db, [open]);
    await wakeSleepers(store.db, { limit: 100 });
    const outcomes = await claimRuns(
      store.db,
      { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }] },
      { memoPageBytes: 1e6, memoPageEntries: 100 },
    );
    const claim = outcomes.flatMap((outcome) => (outcome.kind === 'claimed' ? [outcome.claim] : []))[0];
    expect(claim).toMatchObject({ run: { runId: parent.runId }, hasArrivals: false });
    expect(claim?.memo.map(({ stepId, isCut }) => [stepId, isCut])).toEqual(
      expect.arrayContaining([
        ['c1', true],
        ['c2', true],
      ]),
    );
    parent = { ...parent, leaseToken: claim?.run.leaseToken ?? 0 };
    const [again] = await startChildren(store.db, [child(1, { attemptNumber: 2 })]);
    expect(again).toMatchObject({ kind: 'started', attemptNumber: 2 });
    expect(await store.run(again?.kind === 'started' ? again.childRunId : '')).toMatchObject({
      workflow_id: `${parent.runId}/c1/2`,
    });
    const [not] = await startChildren(store.db, [child(2, { attemptNumber: 2, workflowId: `${parent.runId}/c1/2` })]);
    expect(not).toMatchObject({ kind: 'arrived' });
    const where = { from: { leaseToken: parent.leaseToken, eventSeq: 1 }, seq: 2 };
    await retryRunAttempts(store.db, [{ ...parent, failure: FAILURE, retryAfterMs: 0, cut: where }]);
    await wakeSleepers(store.db, { limit: 100 });
    parent = await leaseOf(parent.runId);
    expect((await startChildren(store.db, [child(2, { attemptNumber: 3 })]))[0]).toMatchObject({ kind: 'started' });
  });

  it('a run with relatives is deleted when they have been dealt with', async () => {
    const [ended, open] = (await start(2)) as [string, string];
    await complete(ended);
    expect(await deleteRuns(store.db, [{ namespace: 'default', runId: ended }])).toEqual([{ kind: 'deleted' }]);
    expect(await take(1)).toMatchObject([{ stepId: 'c1', status: 'COMPLETED' }]);
    await endRuns(store.db, [{ ...parent, end: 'COMPLETED', output: null, hasOpenSteps: true }]);
    expect(await deleteRuns(store.db, [{ namespace: 'default', runId: parent.runId }])).toEqual([{ kind: 'deleted' }]);
    expect(await store.run(open)).toMatchObject({ status: 'CANCELLED' });
    expect(await tellParents(store.db, [open])).toEqual([]);
  });

  it('a tree is read level by level, and says where it continues', async () => {
    const ids = await start(3);
    const lease = await leaseOf(ids[0] as string);
    await startChildren(store.db, [child(1, lease)]);
    const whole = await readRunTree(store.db, parent.runId, 10);
    expect(whole.hasMore).toBe(false);
    expect(whole.nodes.map(({ depth }) => depth)).toEqual([0, 1, 1, 1, 2]);
    const part = await readRunTree(store.db, parent.runId, 2);
    expect(part.nodes.map(({ depth, hasMoreChildren }) => [depth, hasMoreChildren])).toEqual([
      [0, true],
      [1, false],
      [1, false],
      [2, false],
    ]);
  });
});
