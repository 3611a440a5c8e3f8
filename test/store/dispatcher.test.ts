import { type ClaimedRun, type Database, openDatabase, registerWorkers, startRuns } from '@perdure/store';
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
    return { taskQueue: queue.taskQueue, calls, results };
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
});
