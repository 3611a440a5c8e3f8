import {
  awaitSteps,
  cancelRuns,
  drainWorkers,
  endRuns,
  endSteps,
  type LeaseRef,
  pauseDispatch,
  pauseRuns,
  resumeDispatch,
  type SendSignal,
  type SendUpdate,
  sendSignals,
  sendUpdates,
  startChildren,
  startIdentity,
  suspendRuns,
  tellParents,
  terminateRuns,
  untoldChildren,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { offerSlots } from '../support/keepers.js';
import { openTestStore, type TestStore } from '../support/store.js';

const text = (value: string) => ({ data: Buffer.from(value), encoding: 'text' });

/** Statements that wake a run also lease it, to the worker that keeps it in memory and has room. */
describe('runs that wake are leased to their keepers', () => {
  let store: TestStore;
  let keeper: string;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(() => store.stop());
  beforeEach(async () => {
    keeper = await store.register();
  });
  // No test claims a run of another one.
  afterEach(async () => {
    const open = await store.database.sql<{ run_id: string }[]>`
      select run_id from perdure.workflow_runs where finished_at is null`;
    await terminateRuns(
      store.db,
      open.map((row) => ({ namespace: 'default', runId: row.run_id, reason: '' })),
    );
  });

  const leases = async (count: number): Promise<LeaseRef[]> => {
    await store.start(count);
    return store.claim(keeper, count);
  };
  /** Runs that wait, suspended, for one signal `go` or one update. */
  const suspended = async (
    count: number,
    { kind = 'SIGNAL', isKept = true, steps = 1, arrivalsAwaited = 1 } = {},
  ): Promise<LeaseRef[]> => {
    const runs = await leases(count);
    for (let seq = 1; seq <= steps; seq++) {
      await awaitSteps(
        store.db,
        runs.map((lease) => ({
          ...lease,
          stepId: `step${seq}`,
          seq,
          stepKind: kind as 'SIGNAL' | 'UPDATE',
          attemptNumber: 1,
          awaits: kind === 'SIGNAL' ? 'go' : '',
          timeoutMs: null,
          eventSeq: seq,
          uncancellable: false,
        })),
      );
    }
    const outcomes = await suspendRuns(
      store.db,
      runs.map((lease) => ({ ...lease, waits: [], arrivalsAwaited, isKept })),
    );
    expect(outcomes.map((outcome) => outcome.kind === 'suspended' && outcome.keeper)).toEqual(
      runs.map(() => (isKept ? { workerId: keeper, taskQueue: 'q', workflowType: 'w' } : null)),
    );
    return runs;
  };
  const signalTo = ({ namespace, runId }: LeaseRef, more: Partial<SendSignal> = {}): SendSignal => ({
    namespace,
    runId,
    name: 'go',
    payload: text('x'),
    requestId: null,
    sender: '',
    maxUnconsumed: 10,
    ...more,
  });

  it('a signal: the claim is the next lease, without a memo, with the signal taken at its first place', async () => {
    const [run] = (await suspended(1)) as [LeaseRef];
    const slots = offerSlots(keeper);
    expect(await sendSignals(store.db, [signalTo(run)], slots)).toEqual([
      { kind: 'sent', seq: 1, effect: { kind: 'leased' } },
    ]);
    expect(slots.open).toBe(0);
    expect(slots.claims).toMatchObject([
      {
        run: { runId: run.runId, namespace: 'default', leaseToken: 2, attempt: 1, workflowType: 'w' },
        leaseMs: 30_000,
        hasArrivals: false,
        memo: [],
        arrivals: [{ stepId: 'step1', status: 'COMPLETED', leaseToken: 2, eventSeq: 1, output: text('x') }],
      },
    ]);
    expect(slots.claims[0]?.nextMemoCursor).not.toBeNull();
    expect(await store.run(run.runId)).toMatchObject({
      status: 'RUNNING',
      leased_by: keeper,
      lease_token: 2,
      has_arrivals: false,
      suspended_by: null,
      available_at: null,
    });
    expect(await store.claim(keeper)).toEqual([]);
  });

  it('an update: the claim says what was received', async () => {
    const [run] = (await suspended(1, { kind: 'UPDATE' })) as [LeaseRef];
    const slots = offerSlots(keeper);
    const command: SendUpdate = {
      namespace: 'default',
      runId: run.runId,
      name: 'add',
      payload: text('1'),
      requestId: uuid(),
      sender: 'me',
      maxUnanswered: 10,
    };
    expect(await sendUpdates(store.db, [command], slots)).toMatchObject([{ kind: 'sent', effect: { kind: 'leased' } }]);
    expect(slots.claims).toMatchObject([
      {
        run: { leaseToken: 2 },
        arrivals: [
          {
            stepId: 'step1',
            kind: 'UPDATE',
            output: text('1'),
            update: { name: 'add', requestId: command.requestId, sender: 'me', answer: null },
          },
        ],
      },
    ]);
  });

  /** A parent that waits, suspended, for its child, which has ended. @returns the parent, and the child's run id */
  const parentOfEnded = async () => {
    const [parent] = (await leases(1)) as [LeaseRef];
    const childRunId = startIdentity('default', '').runId;
    await startChildren(store.db, [
      {
        ...parent,
        stepId: 'c',
        seq: 1,
        attemptNumber: 1,
        eventSeq: 1,
        uncancellable: false,
        childRunId,
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
      },
    ]);
    await suspendRuns(store.db, [{ ...parent, waits: [], arrivalsAwaited: 1, isKept: true }]);
    const [child] = (await store.claim(keeper)) as [LeaseRef];
    await endRuns(store.db, [{ ...child, end: 'COMPLETED', output: text('done'), hasOpenSteps: false }]);
    return { parent, childRunId };
  };

  it('the end of a child: the parent has its result, and the end is not told again', async () => {
    const { parent, childRunId } = await parentOfEnded();
    const slots = offerSlots(keeper);
    expect(await tellParents(store.db, [childRunId], slots)).toEqual([
      { namespace: 'default', runId: parent.runId, effect: { kind: 'leased' } },
    ]);
    expect(slots.claims).toMatchObject([
      { run: { runId: parent.runId, leaseToken: 2 }, arrivals: [{ stepId: 'c', kind: 'CHILD', output: text('done') }] },
    ]);
    expect(await untoldChildren(store.db, { limit: 10, minAgeMs: 0 })).toEqual([]);
    expect(await tellParents(store.db, [childRunId], slots)).toEqual([]);
  });

  it('a parent that something else has woken gets its lease, when only another one is told of an end', async () => {
    const [told, other] = [await parentOfEnded(), await parentOfEnded()];
    const { runId } = other.parent;
    const ending = { namespace: 'default', runId, stepId: 'c', actor: '', reason: '', requestId: '' };
    expect(await endSteps(store.db, [{ ...ending, outcome: { kind: 'SKIPPED' } }])).toMatchObject([{ kind: 'ended' }]);
    const slots = offerSlots(keeper);
    const parents = await tellParents(store.db, [told.childRunId, other.childRunId], slots);
    expect(parents.map((parent) => parent.runId)).toEqual([told.parent.runId]);
    // A lease that nobody is told of would hold the run until it expires.
    expect(slots.claims.map(({ run }) => run.runId).sort()).toEqual([told.parent.runId, runId].sort());
  });

  it('a batch: each run once, however many signals it gets, and only those that wake', async () => {
    const [twice, other, joins, refused] = (await suspended(4)) as [LeaseRef, LeaseRef, LeaseRef, LeaseRef];
    const requestId = uuid();
    await sendSignals(store.db, [signalTo(refused, { name: 'else', requestId })]);
    const slots = offerSlots(keeper);
    const outcomes = await sendSignals(
      store.db,
      [
        signalTo(twice, { name: 'else' }),
        signalTo(twice),
        signalTo(twice),
        signalTo(other),
        signalTo(joins, { name: 'else' }),
        // A repeat, and a signal that wakes the run.
        signalTo(refused, { name: 'else', requestId }),
        signalTo(refused),
      ],
      slots,
    );
    expect(outcomes.map(({ kind }) => kind)).toEqual(['sent', 'sent', 'sent', 'sent', 'sent', 'already_sent', 'sent']);
    expect(slots.claims.map(({ run }) => run.runId).sort()).toEqual([twice, other, refused].map((r) => r.runId).sort());
    expect(slots.claims.map(({ arrivals }) => arrivals.length)).toEqual([1, 1, 1]);
    expect((await store.run(joins.runId)).status).toBe('WAITING');
    expect(slots.open).toBe(0);
  });

  it('many arrivals of one run come with its claim, in the order of their arrival', async () => {
    const [run] = (await suspended(1, { steps: 5, arrivalsAwaited: 5 })) as [LeaseRef];
    const slots = offerSlots(keeper);
    await sendSignals(store.db, [signalTo(run), signalTo(run)], slots);
    expect(slots.claims).toEqual([]);
    const outcomes = await sendSignals(store.db, [signalTo(run), signalTo(run), signalTo(run)], slots);
    expect(outcomes.map((outcome) => outcome.kind === 'sent' && outcome.effect.kind)).toEqual([
      'leased',
      'leased',
      'leased',
    ]);
    expect(slots.claims).toHaveLength(1);
    const steps = slots.claims[0]?.arrivals.map(({ stepId }) => stepId);
    expect(steps).toEqual(['step1', 'step2', 'step3', 'step4', 'step5']);
  });

  it('a run that another worker keeps, or none, is claimable as before', async () => {
    const [kept] = (await suspended(1)) as [LeaseRef];
    const [cold] = (await suspended(1, { isKept: false })) as [LeaseRef];
    const slots = offerSlots(await store.register());
    const outcomes = await sendSignals(store.db, [signalTo(kept), signalTo(cold)], slots);
    expect(outcomes.map((outcome) => outcome.kind === 'sent' && outcome.effect.kind)).toEqual(['woken', 'woken']);
    expect(slots).toMatchObject({ claims: [], open: 0 });
    expect(await store.run(kept.runId)).toMatchObject({ status: 'PENDING', lease_token: 1, has_arrivals: true });
  });

  it('a worker that drains gets none', async () => {
    const [run] = (await suspended(1)) as [LeaseRef];
    await drainWorkers(store.db, [{ namespace: 'default', workerId: keeper }]);
    const slots = offerSlots(keeper);
    expect(await sendSignals(store.db, [signalTo(run)], slots)).toMatchObject([{ effect: { kind: 'woken' } }]);
    expect(slots).toMatchObject({ claims: [], open: 0 });
  });

  it('a run that is paused gets none, nor one of a paused queue or type; others do', async () => {
    const [own, ofQueue] = (await suspended(2)) as [LeaseRef, LeaseRef];
    await pauseRuns(store.db, [{ ...own, by: '', reason: '' }]);
    const slots = offerSlots(keeper);
    expect(await sendSignals(store.db, [signalTo(own)], slots)).toMatchObject([{ effect: { kind: 'woken' } }]);
    for (const [kind, name] of [
      ['TASK_QUEUE', 'q'],
      ['WORKFLOW_TYPE', 'w'],
    ] as const) {
      const pause = { namespace: 'default', kind, name, pausedBy: '', reason: '' };
      await pauseDispatch(store.db, pause);
      expect(await sendSignals(store.db, [signalTo(ofQueue)], slots)).toMatchObject([{ kind: 'sent' }]);
      expect(await store.run(ofQueue.runId)).toMatchObject({ status: 'PENDING', lease_token: 1 });
      await resumeDispatch(store.db, pause);
    }
    const other = { namespace: 'default', kind: 'TASK_QUEUE', name: 'other', pausedBy: '', reason: '' } as const;
    await pauseDispatch(store.db, other);
    expect(slots).toMatchObject({ claims: [], open: 0 });
    await sendSignals(store.db, [signalTo(ofQueue)], slots);
    await resumeDispatch(store.db, other);
    expect(slots.claims).toMatchObject([{ run: { runId: ofQueue.runId, leaseToken: 2 } }]);
  });

  it('a run that its worker holds gets a notice, and keeps its lease', async () => {
    const [run] = (await leases(1)) as [LeaseRef];
    const slots = offerSlots(keeper);
    await sendSignals(store.db, [signalTo(run)], slots);
    expect(slots).toMatchObject({ claims: [], open: 0 });
    expect(await store.run(run.runId)).toMatchObject({ status: 'RUNNING', lease_token: 1 });
  });

  it('a run that a cancel has woken is leased with the cancel request', async () => {
    const [run] = (await suspended(1)) as [LeaseRef];
    await cancelRuns(store.db, [{ ...run, reason: '' }]);
    const slots = offerSlots(keeper);
    await sendSignals(store.db, [signalTo(run)], slots);
    expect(slots.claims).toMatchObject([{ run: { runId: run.runId, leaseToken: 2 } }]);
    expect(slots.claims[0]?.run.cancelRequestedAt).not.toBeNull();
  });

  it('slots are given back when the statement fails', async () => {
    const [run] = (await suspended(1)) as [LeaseRef];
    const slots = offerSlots(keeper);
    await expect(sendSignals(store.db, [signalTo(run, { name: 'a\0b' })], slots)).rejects.toThrow();
    expect(slots).toMatchObject({ claims: [], open: 0 });
    expect(await store.run(run.runId)).toMatchObject({ status: 'WAITING', lease_token: 1 });
  });
});
