import {
  type ClaimedRun,
  type Database,
  openDatabase,
  registerWorkers,
  type StartRun,
  startIdentity,
  startRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Dispatcher } from '../../packages/server/dist/dispatch/dispatcher.js';
import { CallState } from '../../packages/server/dist/rpc/handlers.js';
import { createDatabase, type TestDatabase } from '../support/database.js';

/** Callers that go, and statements that fail, while runs are on their way to waiting polls. */
describe('slots for runs that start', () => {
  let database: TestDatabase;
  let db: Database;
  const undeliverable: ClaimedRun[] = [];
  let dispatcher: Dispatcher;
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url });
    dispatcher = new Dispatcher({
      db,
      pollFallbackMs: 60_000,
      maxWaitingPolls: 100,
      onUndeliverable: (claim) => undeliverable.push(claim),
    });
  });
  afterAll(async () => {
    dispatcher.stop();
    await db.close();
    await database.drop();
  });

  const startOf = (taskQueue: string): StartRun => {
    const { runId } = startIdentity('default', '');
    const none = { input: null, requestId: null, build: '', startDelayMs: 0, runTimeoutMs: 0, executionTimeoutMs: 0 };
    const named = { namespace: 'default', taskQueue, workflowType: 'w', workflowId: runId, runId };
    return { ...none, ...named, priority: 0, reusePolicy: 'ALLOW', maxLostLeases: 10 };
  };

  /** A registered worker whose polls wait for runs. */
  const waitingWorker = async (polls: number) => {
    const queue = { namespace: 'default', taskQueue: `q-${uuid()}`, workflowTypes: ['w'] };
    const workerId = uuid();
    await registerWorkers(db, [{ ...queue, workerId, build: '', identity: '', slots: 10, leaseMs: 30_000 }]);
    const calls = Array.from({ length: polls }, () => new CallState());
    const results: ReturnType<Dispatcher['poll']>[] = [];
    for (const call of calls) {
      results.push(dispatcher.poll({ ...queue, workerId, maxRuns: 5, leaseMs: 30_000, waitMs: 20_000, call }));
      // Time for the first look at the queue; whoever comes later stands behind.
      await new Promise((resolve) => setTimeout(resolve, 200));
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

  it('no slots are reserved for starts while the queue may have runs', async () => {
    const { taskQueue, results } = await waitingWorker(1);
    const first = startOf(taskQueue);
    await startRuns(db, [first]);
    dispatcher.wake({ namespace: 'default', taskQueue });
    expect(dispatcher.reserve([startOf(taskQueue)]).slots).toEqual([null]);
    expect(await results[0]).toMatchObject({ kind: 'claimed', claims: [{ run: { runId: first.runId } }] });
  });
});
