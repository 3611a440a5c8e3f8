import {
  clearSuspects,
  completeSteps,
  deleteRuns,
  type Failure,
  findRunState,
  type LeaseRef,
  readRunFacts,
  reclaimLeases,
  registerWorkers,
  retryRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestStore, type TestStore } from '../support/store.js';

const LEASE_MS = 30_000;

describe('the workers that a run has lost', () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(() => store.stop());

  const register = async (identity: string): Promise<string> => {
    const workerId = uuid();
    await registerWorkers(store.db, [
      {
        namespace: 'default',
        taskQueue: 'q',
        workflowTypes: ['w'],
        workerId,
        build: 'b1',
        identity,
        slots: 10,
        leaseMs: LEASE_MS,
      },
    ]);
    return workerId;
  };
  const claimBy = async (workerId: string): Promise<LeaseRef> => {
    // A backoff is over.
    await store.database
      .sql`update perdure.workflow_runs set status = 'PENDING', wake_at = null, available_at = perdure.clock()
      where status = 'SLEEPING'`;
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('Nothing was claimed.');
    return lease;
  };
  const lose = async () => {
    await store.database.advanceClock(LEASE_MS + 1_000);
    return reclaimLeases(store.db, { limit: 100, backoffMs: 1_000, maxBackoffMs: 60_000, serverGraceMs: 0 });
  };
  const lostBy = async (runId: string) => {
    const run = await findRunState(store.db, { namespace: 'default', runId });
    if (run === null) throw new Error('There is no such run.');
    return (await readRunFacts(store.db, run)).lostLeases;
  };

  it('are noted with when, their last sign of life and the open step, and are told with the failure of the run', async () => {
    const [runId = ''] = await store.start(1, { maxLostLeases: 3 });
    const workers: string[] = [];
    for (const name of ['first', 'second', 'third']) {
      const workerId = await register(name);
      workers.push(workerId);
      const lease = await claimBy(workerId);
      expect(await store.begin(lease, { stepId: 'parse', attemptNumber: lease.leaseToken })).toBe('begun');
      if (name !== 'third') expect((await lose()).runIds).toEqual([runId]);
    }
    expect(await lostBy(runId)).toMatchObject([{ workerId: workers[0] }, { workerId: workers[1] }]);
    expect((await lose()).failedRunIds).toEqual([runId]);
    const { status, failure } = await store.run(runId);
    const { reason, message, lostLeases = [] } = failure as Failure;
    expect([status, reason]).toEqual(['FAILED', 'TOO_MANY_LOST_LEASES']);
    expect(message).toBe(
      `The run lost its worker 3 times in a row without completing a step in between; the last one was third (${workers[2]}), which executed step parse.`,
    );
    expect(lostLeases).toMatchObject(
      ['first', 'second', 'third'].map((workerIdentity, index) => ({
        leaseToken: index + 1,
        workerId: workers[index],
        workerIdentity,
        build: 'b1',
        openSteps: ['parse'],
        counted: true,
      })),
    );
    for (const { lastSeenAt, lostAt } of lostLeases)
      expect(Date.parse(lostAt) - Date.parse(lastSeenAt)).toBeGreaterThanOrEqual(LEASE_MS);
    expect(await lostBy(runId)).toEqual(lostLeases);
  });

  it('of which a failure names those in a row: a completed step begins anew', async () => {
    const [runId = ''] = await store.start(1, { maxLostLeases: 1 });
    await store.database
      .sql`update perdure.workflow_runs set lost_leases = 0, max_lost_leases = 10 where run_id = ${runId}`;
    const lease = await claimBy(await register('recovers'));
    await lose();
    const again = await claimBy(await register('works'));
    expect([lease.runId, again.runId]).toEqual([runId, runId]);
    expect(await store.begin(again)).toBe('begun');
    await completeSteps(store.db, [{ ...again, stepId: 's', attemptNumber: 1, output: null, eventSeq: 1 }]);
    await store.database.sql`update perdure.workflow_runs set max_lost_leases = 1 where run_id = ${runId}`;
    expect((await lose()).failedRunIds).toEqual([runId]);
    const { failure } = await store.run(runId);
    expect((failure as Failure).lostLeases).toMatchObject([{ workerIdentity: 'works', openSteps: [] }]);
    expect(await lostBy(runId)).toMatchObject([{ workerIdentity: 'recovers' }, { workerIdentity: 'works' }]);
    // A person lets it continue: what is known of its workers stays, and goes with the run.
    await retryRuns(store.db, [{ namespace: 'default', runId, actor: '', reason: '', requestId: null }]);
    expect(await lostBy(runId)).toHaveLength(2);
    await terminateRuns(store.db, [{ namespace: 'default', runId, reason: '' }]);
    await deleteRuns(store.db, [{ namespace: 'default', runId }]);
    expect(await store.database.sql`select 1 from perdure.lost_leases where run_id = ${runId}`).toEqual([]);
  });

  it('make a suspect of it, until it completes a step: then its worker may get another suspect', async () => {
    const workerId = await register('busy');
    await store.start(2);
    await store.database
      .sql`update perdure.workflow_runs set lost_leases = 2, counted_losses = 1 where status = 'PENDING'`;
    const [first] = await store.claim(workerId, 2);
    if (first === undefined) throw new Error('Nothing was claimed.');
    expect(await store.claim(workerId, 2)).toEqual([]);
    expect(await store.begin(first)).toBe('begun');
    expect(await clearSuspects(store.db, { limit: 10 })).toEqual({ cleared: 0, queues: [] });
    await completeSteps(store.db, [{ ...first, stepId: 's', attemptNumber: 1, output: null, eventSeq: 1 }]);
    expect(await clearSuspects(store.db, { limit: 10 })).toEqual({
      cleared: 1,
      queues: [{ namespace: 'default', taskQueue: 'q' }],
    });
    expect(await store.run(first.runId)).toMatchObject({ status: 'RUNNING', lost_leases: 0, counted_losses: 0 });
    const [second] = await store.claim(workerId, 2);
    expect(second?.runId).not.toBe(first.runId);
    expect(second).toBeDefined();
    // A step that was completed under an earlier lease proves nothing.
    await store.database
      .sql`update perdure.workflow_runs set lost_leases = 2, lease_token = lease_token + 1 where run_id = ${first.runId}`;
    expect((await clearSuspects(store.db, { limit: 10 })).cleared).toBe(0);
    await terminateRuns(
      store.db,
      [first, second as LeaseRef].map((lease) => ({ ...lease, reason: '' })),
    );
  });

  it('are the latest 20', async () => {
    const [runId = ''] = await store.start(1, { maxLostLeases: 24 });
    const workerId = await register('restarts');
    for (let n = 0; n < 24; n++) {
      expect((await claimBy(workerId)).runId).toBe(runId);
      await store.database.sql`update perdure.workers set lost_run_losses = null where worker_id = ${workerId}`;
      await lose();
    }
    const { failure } = await store.run(runId);
    const tokens = (failure as Failure).lostLeases?.map(({ leaseToken }) => leaseToken);
    expect(tokens).toEqual(Array.from({ length: 20 }, (_, index) => index + 5));
    expect((await lostBy(runId)).map(({ leaseToken }) => leaseToken)).toEqual(tokens);
  });
});
