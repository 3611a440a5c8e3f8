import {
  type BeginStep,
  beginSteps,
  cancelRuns,
  endRuns,
  expireRuns,
  expireSteps,
  type LeaseRef,
  nextExpiryMs,
  releaseRuns,
  retryRunAttempts,
  startRuns,
  terminateRuns,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { beginCommand, FAILURE, openTestStore, startCommand, type TestStore } from '../support/store.js';

/** The moment at which an attempt begins and the moment at which its run ends, over connections of their own. */
describe('a run that ends while an attempt begins', () => {
  const ROUNDS = 150;
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());

  const leaseOne = async (): Promise<LeaseRef> => {
    await store.start();
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('There was nothing to claim.');
    return lease;
  };
  const openSteps = async () => {
    const [row] = await store.database.sql<{ n: number }[]>`
      select count(*)::int as n from perdure.step_runs s join perdure.workflow_runs r using (run_id)
      where s.status = 'RUNNING' and r.status <> 'RUNNING'`;
    return row?.n;
  };

  const ends: Record<string, (lease: LeaseRef) => Promise<unknown>> = {
    'is terminated': ({ namespace, runId }) => terminateRuns(store.db, [{ namespace, runId, reason: '' }]),
    'is replaced by another start': async ({ namespace, runId }) => {
      const { workflow_id: workflowId } = await store.run(runId);
      const reusePolicy = 'TERMINATE_EXISTING' as const;
      await startRuns(store.db, [
        startCommand({ namespace, workflowId: workflowId as string, reusePolicy, taskQueue: 'elsewhere' }),
      ]);
    },
    fails: (lease) => endRuns(store.db, [{ ...lease, end: 'FAILED', failure: FAILURE }]),
    'completes with something open': (lease) =>
      endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: true }]),
    'is attempted anew': (lease) =>
      retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 3_600_000, cut: null }]),
    'is given back': (lease) => releaseRuns(store.db, [{ ...lease, delayMs: 3_600_000, reason: '' }]),
  };
  for (const [name, end] of Object.entries(ends)) {
    it(`a run that begins an attempt and ${name} keeps no attempt open, in either order`, async () => {
      let begun = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const lease = await leaseOne();
        // Ahead of the end by up to a few hundred microseconds, so that some rounds meet in the middle.
        const beginning = store.begin(lease, { timeoutMs: 3_600_000 });
        for (let spin = 0; spin < (round % 10) * 20_000; spin++);
        const [kind] = await Promise.all([beginning, end(lease)]);
        if (kind === 'begun') begun++;
      }
      expect(begun).toBeGreaterThan(0);
      expect(await openSteps()).toBe(0);
    });
  }

  /** Begins an attempt and holds its run until the statement waits for it with an older snapshot. */
  const beginUnder = async (
    lease: LeaseRef,
    statement: string,
    end: () => Promise<unknown>,
    more: Partial<BeginStep>,
  ) => {
    let ending: Promise<unknown> = Promise.resolve();
    await store.db.transaction(async (transaction) => {
      await beginSteps(transaction, [beginCommand(lease, more)]);
      ending = end();
      const blocked = async () =>
        (
          await store.database.sql`select 1 from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and query like ${`%${statement}%`}`
        ).length > 0;
      while (!(await blocked()));
    });
    await ending;
  };

  it('closes an attempt that was begun after the end had looked, and before it had the lock', async () => {
    const lease = await leaseOne();
    const terminate = () => terminateRuns(store.db, [{ namespace: 'default', runId: lease.runId, reason: '' }]);
    await beginUnder(lease, 'terminate_runs', terminate, { timeoutMs: 1_000 });
    expect(await store.attempts(lease.runId)).toEqual({ 's/1': 'CANCELLED' });
  });

  it('is cut with all that was begun after its retry had looked, and before it had the lock', async () => {
    const lease = await leaseOne();
    const cut = { from: { leaseToken: lease.leaseToken, eventSeq: 1 }, seq: 1 };
    const retry = () => retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 3_600_000, cut }]);
    await beginUnder(lease, 'retry_run_attempts', retry, { stepId: 'clean up', seq: 2 });
    const [step] = await store.database.sql`
      select status, is_cut from perdure.step_runs where run_id = ${lease.runId}`;
    expect(step).toEqual({ status: 'FAILED', is_cut: true });
  });

  it('is claimable at once when it is attempted anew and a cancel was requested, and its queue is told', async () => {
    const lease = await leaseOne();
    await cancelRuns(store.db, [{ namespace: 'default', runId: lease.runId, reason: '' }]);
    const retry = { ...lease, failure: FAILURE, retryAfterMs: 3_600_000, cut: null };
    expect(await retryRunAttempts(store.db, [retry])).toEqual([{ kind: 'retrying', taskQueue: 'q', delayed: false }]);
    expect((await store.run(lease.runId)).status).toBe('PENDING');
    await endRuns(
      store.db,
      (await store.claim(workerId)).map((claimed) => ({ ...claimed, end: 'CANCELLED' })),
    );
  });

  it('at its deadline keeps no attempt open, and keeps the error of its last attempt as the cause', async () => {
    await store.start(1, { runTimeoutMs: 1_000 });
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('There was nothing to claim.');
    await store.begin(lease);
    await store.database.sql`update perdure.workflow_runs
      set failure = ${store.database.sql.json({ ...FAILURE, message: 'the provider is down' })} where run_id = ${lease.runId}`;
    await store.database.advanceClock(2_000);
    expect(await expireRuns(store.db, { limit: 10 })).toEqual([lease.runId]);
    expect(await store.attempts(lease.runId)).toEqual({ 's/1': 'CANCELLED' });
    expect((await store.run(lease.runId)).failure).toMatchObject({
      reason: 'RUN_TIMEOUT',
      cause: { message: 'the provider is down' },
    });
  });

  it('attempts that ended runs left open do not delay the timeouts of others, and do not keep the reaper awake', async () => {
    // What a worker does that says nothing is open although something is.
    await store.start(20);
    const liars = await store.claim(workerId, 20);
    expect(liars).toHaveLength(20);
    for (const lease of liars) await store.begin(lease, { timeoutMs: 100 });
    for (const lease of liars) {
      await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    }
    await store.database.advanceClock(1_000);
    await expireSteps(store.db, { limit: 5 });
    const due = await nextExpiryMs(store.db);
    expect(due === null || due > 0).toBe(true);
    for (let sweep = 0; sweep < 4; sweep++) await expireSteps(store.db, { limit: 5 });
    expect(await openSteps()).toBe(0);
    const [liar] = liars;
    expect(await store.attempts(liar?.runId ?? '')).toEqual({ 's/1': 'CANCELLED' });
    expect((await store.run(liar?.runId ?? '')).status).toBe('COMPLETED');
  });
});
