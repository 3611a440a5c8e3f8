import {
  beginCompensations,
  claimRuns,
  endRuns,
  expireRuns,
  type Failure,
  type LeaseRef,
  reclaimLeases,
  releaseRuns,
  retryRunAttempts,
  terminateRuns,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const RECLAIM = { limit: 100, backoffMs: 0, maxBackoffMs: 0, serverGraceMs: 0 };

describe('a run that is compensated', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());

  const compensating = async (more = {}): Promise<LeaseRef> => {
    await store.start(1, more);
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('The run was not claimed.');
    expect(await beginCompensations(store.db, [lease])).toEqual([{ kind: 'compensating' }]);
    return lease;
  };
  const stateOf = async ({ runId }: LeaseRef) => {
    const { status, compensation } = await store.run(runId);
    return [status, compensation];
  };
  const fail = (lease: LeaseRef, failure: Failure) => endRuns(store.db, [{ ...lease, end: 'FAILED', failure }]);
  const failed = [{ stepId: 's', failure: FAILURE }];
  const expireLease = ({ runId }: LeaseRef) =>
    store.database.sql`update perdure.workflow_runs set lease_expires_at = perdure.clock() - interval '1 s'
      where run_id = ${runId}`;

  it('begins once, fenced', async () => {
    const lease = await compensating();
    expect(
      await beginCompensations(store.db, [
        lease,
        { ...lease, leaseToken: lease.leaseToken - 1 },
        { ...lease, namespace: 'elsewhere' },
      ]),
    ).toEqual([{ kind: 'compensating' }, { kind: 'lease_lost' }, { kind: 'run_not_found' }]);
    expect(await stateOf(lease)).toEqual(['RUNNING', 'COMPENSATING']);
    await fail(lease, FAILURE);
    expect(await beginCompensations(store.db, [lease])).toEqual([{ kind: 'lease_lost' }]);
  });

  it('no timeout ends it, not under a later lease either', async () => {
    const lease = await compensating({ runTimeoutMs: 1_000, executionTimeoutMs: 1_000 });
    await releaseRuns(store.db, [{ ...lease, reason: '', delayMs: 0 }]);
    const [claimed] = await claimRuns(
      store.db,
      { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }] },
      { memoPageBytes: 1e6, memoPageEntries: 100 },
    );
    expect(claimed).toMatchObject({
      kind: 'claimed',
      claim: {
        run: { runId: lease.runId, compensation: 'COMPENSATING', runDeadlineAt: null, executionDeadlineAt: null },
      },
    });
    await terminateRuns(store.db, [{ ...lease, reason: '' }]);
  });

  it.each<[string, (lease: LeaseRef) => Promise<unknown>, string[]]>([
    [
      'fails with a report',
      (lease) => fail(lease, { ...FAILURE, compensation: { compensated: ['c'], failed: [] } }),
      ['FAILED', 'COMPLETE'],
    ],
    [
      'fails with failed compensations',
      (lease) => fail(lease, { ...FAILURE, compensation: { compensated: ['c'], failed } }),
      ['FAILED', 'PARTIAL'],
    ],
    ['fails without a report', (lease) => fail(lease, FAILURE), ['FAILED', 'PARTIAL']],
    ['is terminated', (lease) => terminateRuns(store.db, [{ ...lease, reason: '' }]), ['TERMINATED', 'PARTIAL']],
    [
      'loses its worker',
      async (lease) => {
        await expireLease(lease);
        await reclaimLeases(store.db, RECLAIM);
      },
      ['PENDING', 'COMPENSATING'],
    ],
    [
      'is given back',
      (lease) => releaseRuns(store.db, [{ ...lease, reason: '', delayMs: 0 }]),
      ['PENDING', 'COMPENSATING'],
    ],
  ])('that %s', async (_, act, expected) => {
    const lease = await compensating();
    await act(lease);
    expect(await stateOf(lease)).toEqual(expected);
    await terminateRuns(store.db, [{ ...lease, reason: '' }]);
  });

  it('that is cancelled has compensated everything', async () => {
    const lease = await compensating();
    await store.database
      .sql`update perdure.workflow_runs set cancel_requested_at = perdure.clock() where run_id = ${lease.runId}`;
    expect(await endRuns(store.db, [{ ...lease, end: 'CANCELLED' }])).toMatchObject([{ kind: 'ended' }]);
    expect(await stateOf(lease)).toEqual(['CANCELLED', 'COMPLETE']);
  });

  it.each([false, true])('that completes nevertheless is not compensated (open steps: %s)', async (hasOpenSteps) => {
    const lease = await compensating();
    expect(await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps }])).toMatchObject([
      { kind: 'ended' },
    ]);
    expect(await stateOf(lease)).toEqual(['COMPLETED', null]);
  });

  it('that is retried is not being compensated any more', async () => {
    const lease = await compensating();
    await retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 0, cut: null }]);
    expect(await stateOf(lease)).toEqual(['SLEEPING', null]);
    await terminateRuns(store.db, [{ ...lease, reason: '' }]);
    expect(await stateOf(lease)).toEqual(['TERMINATED', null]);
  });

  it('that kills its workers, or that a timeout of before ends, is PARTIAL', async () => {
    const killer = await compensating({ maxLostLeases: 1 });
    await store.database
      .sql`update perdure.workflow_runs set lost_leases = 1, counted_losses = 0 where run_id = ${killer.runId}`;
    await expireLease(killer);
    await reclaimLeases(store.db, RECLAIM);
    expect(await stateOf(killer)).toEqual(['FAILED', 'PARTIAL']);
    const late = await compensating();
    await store.database
      .sql`update perdure.workflow_runs set run_deadline_at = perdure.clock() where run_id = ${late.runId}`;
    expect(await expireRuns(store.db, { limit: 10 })).toEqual([late.runId]);
    expect(await stateOf(late)).toEqual(['FAILED', 'PARTIAL']);
  });
});
