import {
  awaitSteps,
  type ClaimedRun,
  type Database,
  openDatabase,
  registerWorkers,
  sendSignals,
  startRuns,
  suspendRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CallState } from '../../packages/server/dist/call/handlers.js';
import { Dispatcher } from '../../packages/server/dist/dispatch/dispatcher.js';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { ManualClock, settled } from '../support/manual-clock.js';
import { startCommand } from '../support/store.js';
import { until } from '../support/until.js';

/** Callers that go, and statements that fail, while runs are on their way to waiting polls. */
describe('slots for runs that start', () => {
  let database: TestDatabase;
  let db: Database;
  const undeliverable: ClaimedRun[] = [];
  let dispatcher: Dispatcher;
  const clock = new ManualClock();
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url });
    dispatcher = new Dispatcher({
      db,
      pollFallbackMs: 1_000,
      clock,
      maxWaitingPolls: 100,
      onUndeliverable: (claim) => undeliverable.push(claim),
    });
  });
  afterAll(async () => {
    dispatcher.stop();
    await db.close();
    await database.drop();
  });

  const startOf = (taskQueue: string) => startCommand({ taskQueue });

  /** A registered worker whose polls wait for runs. */
  const waitingWorker = async (polls: number) => {
    const queue = { namespace: 'default', taskQueue: `q-${uuid()}`, workflowTypes: ['w'] };
    const workerId = uuid();
    await registerWorkers(db, [{ ...queue, workerId, build: '', identity: '', slots: 10, leaseMs: 30_000 }]);
    const calls = Array.from({ length: polls }, () => new CallState());
    const results: ReturnType<Dispatcher['poll']>[] = [];
    for (const call of calls) {
      results.push(dispatcher.poll({ ...queue, workerId, maxRuns: 5, leaseMs: 30_000, waitMs: 20_000, call }));
      // Whoever comes later stands behind.
      await until('its first look to be over', () => dispatcher.waitingPolls(queue) === results.length);
    }
    return { workerId, taskQueue: queue.taskQueue, calls, results };
  };

  it('a run leased to a caller that has left goes to another poll of its worker, or is given back', async () => {
    const { taskQueue, calls, results } = await waitingWorker(2);
    const starts = [startOf(taskQueue), startOf(taskQueue)];
    const reservation = dispatcher.reserve(starts);
    const outcomes = await startRuns(db, starts, reservation.slots);
    // Committed, and then the caller goes before it is handed its runs.
    calls[0]?.abort();
    const claims = outcomes.map((outcome) => (outcome.kind === 'started' ? outcome.claim : null));
    expect(claims.every((claim) => claim !== null)).toBe(true);
    reservation.settle(claims);
    expect(await results[0]).toEqual({ kind: 'empty' });
    const handed = await results[1];
    const handedIds = handed?.kind === 'claimed' ? handed.claims.map(({ run }) => run.runId) : [];
    const givenBack = undeliverable.splice(0).map(({ run }) => run.runId);
    expect([handedIds.length, givenBack.length]).toEqual([1, 1]);
    expect(new Set([...handedIds, ...givenBack])).toEqual(new Set(starts.map(({ runId }) => runId)));
  });

  it('slots reserved for starts are free again when the statement fails', async () => {
    const { taskQueue, results } = await waitingWorker(1);
    dispatcher.reserve([startOf(taskQueue)]).settle([]);
    const starts = [startOf(taskQueue)];
    const reservation = dispatcher.reserve(starts);
    const [outcome] = await startRuns(db, starts, reservation.slots);
    reservation.settle([outcome?.kind === 'started' ? outcome.claim : null]);
    expect(await results[0]).toMatchObject({ kind: 'claimed', claims: [{ run: { runId: starts[0]?.runId } }] });
    expect(undeliverable).toEqual([]);
  });

  it('are none of a poll whose wait is over: it ends with nothing when its time has come, and not before', async () => {
    const { taskQueue, results } = await waitingWorker(1);
    let ended = false;
    void results[0]?.then(() => {
      ended = true;
    });
    // Without a look in between: the process stands still.
    clock.stall(19_999);
    await settled();
    expect(ended).toBe(false);
    await clock.advance(1);
    expect(await results[0]).toEqual({ kind: 'empty' });
    expect(dispatcher.reserve([startOf(taskQueue)]).slots).toEqual([null]);
  });

  it('bring what nobody told of at the next regular look', async () => {
    const { taskQueue, results } = await waitingWorker(1);
    const start = startOf(taskQueue);
    await startRuns(db, [start]);
    await clock.advance(1_000);
    expect(await results[0]).toMatchObject({ kind: 'claimed', claims: [{ run: { runId: start.runId } }] });
  });

  it('are not taken while something may wait in the queue', async () => {
    const { taskQueue, results } = await waitingWorker(1);
    const first = startOf(taskQueue);
    await startRuns(db, [first]);
    dispatcher.wake({ namespace: 'default', taskQueue });
    expect(dispatcher.reserve([startOf(taskQueue)]).slots).toEqual([null]);
    expect(await results[0]).toMatchObject({ kind: 'claimed', claims: [{ run: { runId: first.runId } }] });
  });

  describe('for runs that wake', () => {
    /** A run that a worker has suspended and keeps in memory, while its polls wait. */
    const keptRun = async (polls: number) => {
      const waiting = await waitingWorker(polls);
      const { workerId, taskQueue } = waiting;
      const queue = { namespace: 'default', taskQueue, workflowTypes: ['w'] };
      const start = startOf(taskQueue);
      await startRuns(db, [start], [{ workerId, leaseMs: 30_000 }]);
      const lease = { namespace: 'default', runId: start.runId, leaseToken: 1 };
      const wait = { stepId: 'go', seq: 1, stepKind: 'SIGNAL', attemptNumber: 1, awaits: 'go', eventSeq: 1 } as const;
      await awaitSteps(db, [{ ...lease, ...wait, timeoutMs: null, uncancellable: false }]);
      await suspendRuns(db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: true }]);
      dispatcher.kept(start.runId, { namespace: 'default', taskQueue, workerId, workflowType: 'w' });
      const command = { namespace: 'default', runId: start.runId, name: 'go', payload: null, requestId: null };
      /** Called once the statement is committed, before its poll gets the run. */
      const signal = (onCommitted: () => void) =>
        sendSignals(db, [{ ...command, sender: '', maxUnconsumed: 10 }], {
          reserve: (runIds) => {
            const reservation = dispatcher.reserveKeepers(runIds);
            return (
              reservation && {
                ...reservation,
                settle(claims) {
                  onCommitted();
                  reservation.settle(claims);
                },
              }
            );
          },
        });
      return { ...waiting, queue, runId: start.runId, signal };
    };

    it('the poll of the keeper gets the run, and no slot of another worker is reserved', async () => {
      const { runId, results, queue, signal } = await keptRun(1);
      const other = uuid();
      await registerWorkers(db, [{ ...queue, workerId: other, build: '', identity: '', slots: 10, leaseMs: 30_000 }]);
      const call = new CallState();
      const beside = dispatcher.poll({ ...queue, workerId: other, maxRuns: 5, leaseMs: 30_000, waitMs: 20_000, call });
      await until('both to wait', () => dispatcher.waitingPolls(queue) === 2);
      expect(await signal(() => undefined)).toMatchObject([{ effect: { kind: 'leased' } }]);
      expect(await results[0]).toMatchObject({ kind: 'claimed', claims: [{ run: { runId, leaseToken: 2 } }] });
      // It is no longer known who keeps it.
      expect(dispatcher.reserveKeepers([runId])).toBeUndefined();
      call.abort();
      expect(await beside).toEqual({ kind: 'empty' });
    });

    it('when the caller of the poll has left, another poll of the worker gets the run', async () => {
      const { runId, calls, results, signal } = await keptRun(2);
      await signal(() => calls[0]?.abort());
      expect(await results[0]).toEqual({ kind: 'empty' });
      expect(await results[1]).toMatchObject({ kind: 'claimed', claims: [{ run: { runId, leaseToken: 2 } }] });
      expect(undeliverable).toEqual([]);
    });

    it('when the caller has left and the worker has no other poll, the lease is given back at once', async () => {
      const { runId, calls, results, signal } = await keptRun(1);
      await signal(() => calls[0]?.abort());
      expect(await results[0]).toEqual({ kind: 'empty' });
      expect(undeliverable.splice(0)).toMatchObject([{ run: { runId, leaseToken: 2 } }]);
    });

    it('there is none when nobody is known to keep the run, its keeper does not wait, or its queue may not be empty', async () => {
      const { runId, calls, results, queue } = await keptRun(1);
      expect(dispatcher.reserveKeepers([uuid()])).toBeUndefined();
      const reserved = dispatcher.reserveKeepers([runId, runId]);
      expect(reserved?.slots.map((slot) => slot !== null)).toEqual([true, false]);
      // The statement for which the poll was reserved has to be over first.
      expect(dispatcher.reserveKeepers([runId])).toBeUndefined();
      reserved?.settle([]);
      dispatcher.wake(queue);
      expect(dispatcher.reserveKeepers([runId])).toBeUndefined();
      await until('the look to be over', () => dispatcher.waitingPolls(queue) === 1);
      calls[0]?.abort();
      expect(await results[0]).toEqual({ kind: 'empty' });
      expect(dispatcher.reserveKeepers([runId])).toBeUndefined();
    });
  });
});
