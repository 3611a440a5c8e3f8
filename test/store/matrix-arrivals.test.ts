/** Every state × every command of messages, events, promises and children: whom it reaches, and what it leaves alone. */
import {
  type ArrivalEffect,
  type AwaitStep,
  answerUpdates,
  awaitSteps,
  cancelRuns,
  endRuns,
  endSteps,
  type LeaseRef,
  pauseRuns,
  publishEvents,
  sendSignals,
  sendUpdates,
  settlePromises,
  signalWithStarts,
  startChildren,
  suspendRuns,
  takeArrivals,
  tellParents,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, startCommand, type TestStore } from '../support/store.js';

const namespace = 'default';
const STATES = ['PENDING', 'RUNNING', 'WAITING', 'WOKEN', 'COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED'] as const;
type State = (typeof STATES)[number];

/** A run in a state; those that were claimed have an open wait of each kind and a received update. */
interface Subject extends LeaseRef {
  readonly workflowId: string;
  readonly childRunId: string;
}
type Command = (subject: Subject, store: TestStore) => Promise<string | undefined>;

const waitOf = (lease: LeaseRef, stepId: string, more: Pick<AwaitStep, 'stepKind' | 'awaits' | 'seq'>): AwaitStep => ({
  namespace: lease.namespace,
  runId: lease.runId,
  leaseToken: lease.leaseToken,
  stepId,
  attemptNumber: 1,
  timeoutMs: null,
  eventSeq: 1,
  uncancellable: false,
  ...more,
});
const eventOf = (runId: string) => ({ namespace, name: 'event', key: runId });
const reached = (kind: string, effect: ArrivalEffect) => `${kind}, ${effect.kind}`;
const awaiting =
  (stepKind: AwaitStep['stepKind'], awaits: (runId: string) => string): Command =>
  async (lease, { db }) => {
    const [outcome] = await awaitSteps(db, [waitOf(lease, 'new', { stepKind, awaits: awaits(lease.runId), seq: 9 })]);
    return outcome?.kind;
  };

const FENCED = (running: string): Record<State, string> => ({
  PENDING: 'lease_lost',
  RUNNING: running,
  WAITING: 'lease_lost',
  WOKEN: 'lease_lost',
  COMPLETED: 'lease_lost',
  FAILED: 'lease_lost',
  CANCELLED: 'lease_lost',
  TERMINATED: 'lease_lost',
});
const ENDED = (outcome: string) => ({
  COMPLETED: outcome,
  FAILED: outcome,
  CANCELLED: outcome,
  TERMINATED: outcome,
});

const COMMANDS: Record<string, { readonly run: Command; readonly expected: Record<State, string> }> = {
  'awaitStep of a signal': { run: awaiting('SIGNAL', () => 'other'), expected: FENCED('waiting') },
  'awaitStep of an update': { run: awaiting('UPDATE', () => ''), expected: FENCED('waiting') },
  'awaitStep of an event': {
    run: awaiting('EVENT', () => JSON.stringify({ namespace, name: 'other' })),
    expected: FENCED('waiting'),
  },
  'awaitStep of a promise': { run: awaiting('PROMISE', (runId) => `other ${runId}`), expected: FENCED('waiting') },
  takeArrivals: {
    run: async (lease, { db }) => (await takeArrivals(db, [{ ...lease, eventSeq: 5, dueStepIds: [] }]))[0]?.kind,
    expected: FENCED('taken'),
  },
  answerUpdate: {
    run: async (lease, { db }) =>
      (await answerUpdates(db, [{ ...lease, stepId: 'received', answer: { kind: 'COMPLETED', output: null } }]))[0]
        ?.kind,
    expected: FENCED('answered'),
  },
  'suspendRun for an arrival': {
    run: async (lease, { db }) =>
      (await suspendRuns(db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]))[0]?.kind,
    expected: { ...FENCED('suspended'), WAITING: 'already_suspended', WOKEN: 'already_suspended' },
  },
  sendSignal: {
    run: async ({ runId }, { db }) => {
      const signal = {
        namespace,
        runId,
        name: 'signal',
        payload: null,
        requestId: null,
        sender: '',
        maxUnconsumed: 10,
      };
      const [outcome] = await sendSignals(db, [signal]);
      return outcome?.kind === 'sent' ? reached('sent', outcome.effect) : outcome?.kind;
    },
    expected: {
      PENDING: 'sent, none',
      RUNNING: 'sent, arrived',
      WAITING: 'sent, woken',
      WOKEN: 'sent, none',
      ...ENDED('run_closed'),
    },
  },
  signalWithStart: {
    run: async ({ workflowId }, { db }) => {
      const start = startCommand({ workflowId, taskQueue: 'unserved' });
      const [outcome] = await signalWithStarts(db, [
        { start, requestId: null, name: 'signal', payload: null, sender: '', maxUnconsumed: 10 },
      ]);
      if (outcome?.kind !== 'sent') return outcome?.kind;
      return outcome.started ? 'sent to nobody here' : reached('sent', outcome.effect);
    },
    expected: {
      PENDING: 'sent, none',
      RUNNING: 'sent, arrived',
      WAITING: 'sent, woken',
      WOKEN: 'sent, none',
      ...ENDED('sent to nobody here'),
    },
  },
  sendUpdate: {
    run: async ({ runId }, { db }) => {
      const update = { namespace, runId, name: 'u', payload: null, requestId: uuid(), sender: '', maxUnanswered: 10 };
      const [outcome] = await sendUpdates(db, [update]);
      return outcome?.kind === 'sent' ? reached('sent', outcome.effect) : outcome?.kind;
    },
    expected: {
      PENDING: 'sent, none',
      RUNNING: 'sent, arrived',
      WAITING: 'sent, woken',
      WOKEN: 'sent, none',
      ...ENDED('run_closed'),
    },
  },
  publishEvent: {
    run: async ({ runId }, { db }) => {
      const event = { ...eventOf(runId), eventId: uuid(), payload: null, requestId: null, retentionMs: 1_000 };
      const [outcome] = await publishEvents(db, [event]);
      if (outcome?.kind !== 'published') return outcome?.kind;
      return [`received by ${outcome.received}`, ...outcome.reached.map(({ effect }) => effect.kind)].join(', ');
    },
    expected: {
      PENDING: 'received by 0',
      RUNNING: 'received by 1, arrived',
      WAITING: 'received by 1, woken',
      WOKEN: 'received by 1, none',
      ...ENDED('received by 0'),
    },
  },
  settlePromise: {
    run: async ({ runId }, { db }) => {
      const outcome = { kind: 'resolved', value: null } as const;
      const [settled] = await settlePromises(db, [{ namespace, promiseId: `promise ${runId}`, outcome }]);
      if (settled?.kind === 'already_settled') return `already_settled, ${settled.status}`;
      return settled?.kind === 'settled' ? reached('settled', settled.reached.effect) : settled?.kind;
    },
    expected: {
      PENDING: 'promise_not_found',
      RUNNING: 'settled, arrived',
      WAITING: 'settled, woken',
      WOKEN: 'settled, none',
      ...ENDED('already_settled, CANCELLED'),
    },
  },
  ...Object.fromEntries(
    (['signal', 'event', 'promise', 'child'] as const).map((stepId) => [
      `endStep of a ${stepId}`,
      {
        run: async ({ runId }: Subject, { db }: TestStore) => {
          const action = { namespace, runId, actor: '', reason: '', requestId: null };
          const [outcome] = await endSteps(db, [{ ...action, stepId, outcome: { kind: 'COMPLETED', output: null } }]);
          if (outcome?.kind !== 'ended') return outcome?.kind;
          return `${reached('ended', outcome.effect)}${outcome.closesChildren ? ', child closed' : ''}`;
        },
        expected: Object.fromEntries(
          Object.entries({
            PENDING: 'step_not_found',
            RUNNING: 'ended, arrived',
            WAITING: 'ended, woken',
            WOKEN: 'ended, none',
            COMPLETED: 'wrong_state',
            FAILED: 'ended, none',
            CANCELLED: 'ended, none',
            TERMINATED: 'ended, none',
          }).map(([state, outcome]) => [
            state,
            stepId === 'child' && ['RUNNING', 'WAITING', 'WOKEN'].includes(state)
              ? `${outcome}, child closed`
              : outcome,
          ]),
        ) as Record<State, string>,
      },
    ]),
  ),
  'endStep of an update': {
    run: async ({ runId }, { db }) => {
      const action = { namespace, runId, actor: '', reason: '', requestId: null };
      return (await endSteps(db, [{ ...action, stepId: 'update', outcome: { kind: 'SKIPPED' } }]))[0]?.kind;
    },
    expected: {
      PENDING: 'step_not_found',
      RUNNING: 'wrong_kind',
      WAITING: 'wrong_kind',
      WOKEN: 'wrong_kind',
      COMPLETED: 'wrong_state',
      FAILED: 'wrong_kind',
      CANCELLED: 'wrong_kind',
      TERMINATED: 'wrong_kind',
    },
  },
  'tellParent of a child that ends': {
    run: async ({ childRunId }, { db }) => {
      await terminateRuns(db, [{ namespace, runId: childRunId, reason: '' }]);
      return (await tellParents(db, [childRunId])).map(({ effect }) => effect.kind).join() || 'nobody';
    },
    expected: { PENDING: 'nobody', RUNNING: 'arrived', WAITING: 'woken', WOKEN: 'none', ...ENDED('nobody') },
  },
};

describe('state × command of what comes from outside', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());

  const inState = async (state: State): Promise<Subject> => {
    const workflowId = uuid();
    const childRunId = uuid();
    const [runId] = (await store.start(1, { workflowId, taskQueue: state === 'PENDING' ? 'unserved' : 'q' })) as [
      string,
    ];
    if (state === 'PENDING') return { namespace, runId, workflowId, childRunId, leaseToken: 0 };
    const [lease] = (await store.claim(workerId)) as [LeaseRef];
    expect(lease.runId).toBe(runId);
    const { db } = store;
    await awaitSteps(db, [waitOf(lease, 'received', { stepKind: 'UPDATE', awaits: '', seq: 1 })]);
    await sendUpdates(db, [
      { namespace, runId, name: 'u', payload: null, requestId: 'first', sender: '', maxUnanswered: 10 },
    ]);
    await takeArrivals(db, [{ ...lease, eventSeq: 1, dueStepIds: [] }]);
    await awaitSteps(db, [
      waitOf(lease, 'signal', { stepKind: 'SIGNAL', awaits: 'signal', seq: 2 }),
      waitOf(lease, 'update', { stepKind: 'UPDATE', awaits: '', seq: 3 }),
      waitOf(lease, 'event', { stepKind: 'EVENT', awaits: JSON.stringify(eventOf(runId)), seq: 4 }),
      waitOf(lease, 'promise', { stepKind: 'PROMISE', awaits: `promise ${runId}`, seq: 5 }),
      waitOf(lease, 'waker', { stepKind: 'SIGNAL', awaits: 'waker', seq: 7 }),
    ]);
    await startChildren(db, [
      {
        ...lease,
        stepId: 'child',
        seq: 6,
        attemptNumber: 1,
        eventSeq: 1,
        uncancellable: false,
        childRunId,
        workflowId: null,
        workflowType: 'w',
        taskQueue: 'children',
        priority: null,
        build: null,
        reusePolicy: 'ALLOW',
        parentClose: 'ABANDON',
        startDelayMs: 0,
        runTimeoutMs: 0,
        executionTimeoutMs: 0,
        maxLostLeases: 10,
        input: null,
      },
    ]);
    const suspend = () => suspendRuns(db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]);
    switch (state) {
      case 'RUNNING':
        break;
      case 'WAITING':
        await suspend();
        break;
      case 'WOKEN':
        await suspend();
        await sendSignals(db, [
          { namespace, runId, name: 'waker', payload: null, requestId: null, sender: '', maxUnconsumed: 10 },
        ]);
        // Nobody claims it in place of the next one.
        await store.database.sql`update perdure.workflow_runs set task_queue = 'unserved' where run_id = ${runId}`;
        break;
      case 'COMPLETED':
        await endRuns(db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: true }]);
        break;
      case 'FAILED':
        await endRuns(db, [{ ...lease, end: 'FAILED', failure: FAILURE }]);
        break;
      case 'CANCELLED':
        await cancelRuns(db, [{ namespace, runId, reason: '' }]);
        await endRuns(db, [{ ...lease, end: 'CANCELLED' }]);
        break;
      case 'TERMINATED':
        await terminateRuns(db, [{ namespace, runId, reason: '' }]);
    }
    return { ...lease, workflowId, childRunId };
  };

  const snapshot = async (runId: string) =>
    JSON.stringify([
      await store.database.sql`select * from perdure.workflow_runs where run_id = ${runId}`,
      await store.database.sql`select * from perdure.step_runs where run_id = ${runId} order by seq, attempt_number`,
      await store.database.sql`select * from perdure.signals where run_id = ${runId} order by seq`,
      await store.database.sql`select * from perdure.run_updates where run_id = ${runId} order by seq`,
    ]);
  const LEFT_ALONE = /lost|run_closed|already|not_found|nobody|received by 0|^paused|wrong/;

  for (const [name, { run, expected }] of Object.entries(COMMANDS)) {
    for (const state of STATES) {
      it(`${name}, ${state} run: ${expected[state]}`, async () => {
        const subject = await inState(state);
        const before = await snapshot(subject.runId);
        expect(await run(subject, store)).toBe(expected[state]);
        const after = await snapshot(subject.runId);
        if (LEFT_ALONE.test(expected[state])) expect(after).toBe(before);
        else expect(after).not.toBe(before);
        if (/arrived|woken/.test(expected[state])) {
          const { status, has_arrivals } = await store.run(subject.runId);
          expect({ status, has_arrivals }).toEqual({
            status: state === 'RUNNING' ? 'RUNNING' : 'PENDING',
            has_arrivals: true,
          });
        }
        await terminateRuns(store.db, [{ namespace, runId: subject.runId, reason: '' }]);
      });
    }
    for (const state of ['RUNNING', 'WAITING'] as const) {
      // What comes reaches a paused run as any other; only what begins is refused.
      const outcome = name.startsWith('awaitStep') && state === 'RUNNING' ? 'paused' : expected[state];
      it(`${name}, ${state} run that is paused: ${outcome}`, async () => {
        const subject = await inState(state);
        await pauseRuns(store.db, [{ namespace, runId: subject.runId, reason: '', by: '' }]);
        const before = await snapshot(subject.runId);
        expect(await run(subject, store)).toBe(outcome);
        const after = await snapshot(subject.runId);
        if (LEFT_ALONE.test(outcome)) expect(after).toBe(before);
        else expect(after).not.toBe(before);
        expect(await store.claim(workerId)).toEqual([]);
        await terminateRuns(store.db, [{ namespace, runId: subject.runId, reason: '' }]);
      });
    }
    if (expected.PENDING !== 'lease_lost') continue;
    it(`${name} of a run that does not exist, with an old token or of another namespace changes nothing`, async () => {
      const lease = await inState('RUNNING');
      const before = await snapshot(lease.runId);
      expect(await run({ ...lease, runId: uuid() }, store)).toBe('run_not_found');
      expect(await run({ ...lease, namespace: 'other' }, store)).toBe('run_not_found');
      expect(await run({ ...lease, leaseToken: lease.leaseToken - 1 }, store)).toBe('lease_lost');
      expect(await run({ ...lease, leaseToken: lease.leaseToken + 1 }, store)).toBe('lease_lost');
      expect(await snapshot(lease.runId)).toBe(before);
      await terminateRuns(store.db, [{ namespace, runId: lease.runId, reason: '' }]);
    });
  }
});
