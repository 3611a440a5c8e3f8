import {
  cancelRuns,
  completeSteps,
  endRuns,
  expireSteps,
  type LeaseRef,
  reclaimLeases,
  releaseRuns,
  renewLeases,
  wakeSleepers,
} from '@perdure/store';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestStore, type TestStore } from '../support/store.js';

const LEASE_MS = 30_000;
const OPTIONS = { limit: 1_000, backoffMs: 1_000, maxBackoffMs: 60_000, serverGraceMs: 0 };

describe('runs whose worker was lost', () => {
  let store: TestStore;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(() => store.stop());

  const reclaim = () => reclaimLeases(store.db, OPTIONS);
  /** All leases that are not renewed end, and everything that waits for a time is due. */
  const loseWorkers = async () => {
    await store.database.advanceClock(LEASE_MS + 1_000);
    await reclaim();
    await store.database.advanceClock(OPTIONS.maxBackoffMs);
    await wakeSleepers(store.db, { limit: 1_000 });
  };
  const one = <T>(items: readonly T[]): T => {
    expect(items).toHaveLength(1);
    return items[0] as T;
  };
  const end = (leases: readonly LeaseRef[]) =>
    endRuns(
      store.db,
      leases.map((lease) => ({ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: true })),
    );

  describe('and that are being cancelled', () => {
    it('runs that are being cancelled wait for the backoff after a lost worker, and FAIL at the limit', async () => {
      const runId = one(await store.start(1, { maxLostLeases: 3 }));
      one(await store.claim(await store.register()));
      await cancelRuns(store.db, [{ namespace: 'default', runId, reason: '' }]);
      const seen: unknown[] = [];
      for (let loss = 1; loss <= 3; loss++) {
        if (loss > 1) one(await store.claim(await store.register()));
        await store.database.advanceClock(LEASE_MS + 1_000);
        await reclaim();
        seen.push((await store.run(runId)).status);
        await store.database.advanceClock(OPTIONS.maxBackoffMs);
        await wakeSleepers(store.db, { limit: 10 });
      }
      expect(seen).toEqual(['PENDING', 'SLEEPING', 'FAILED']);
      const { failure, cancel_requested_at: cancelRequestedAt } = await store.run(runId);
      expect(failure).toMatchObject({ reason: 'TOO_MANY_LOST_LEASES' });
      expect((failure as { message: string }).message).toMatch(/being cancelled; its clean-up may not be complete/);
      expect(cancelRequestedAt).not.toBeNull();
    });
  });

  describe('while an attempt had a timeout', () => {
    const TIMEOUT_MS = 11_000;
    const beginOne = async () => {
      const runId = one(await store.start());
      const lease = one(await store.claim(await store.register({ leaseMs: LEASE_MS })));
      await store.begin(lease, { timeoutMs: TIMEOUT_MS });
      return { runId, lease };
    };

    it('an attempt past its deadline is not counted when its worker has been silent since before the deadline', async () => {
      const { runId } = await beginOne();
      await store.database.advanceClock(TIMEOUT_MS + 1_000);
      expect((await expireSteps(store.db, { limit: 10 })).taken).toBe(0);
      expect(await store.attempts(runId)).toEqual({ 's/1': 'RUNNING' });
      await store.database.advanceClock(LEASE_MS - TIMEOUT_MS);
      expect((await expireSteps(store.db, { limit: 10 })).taken).toBe(0);
      expect((await reclaim()).runIds).toEqual([runId]);
      expect(await store.attempts(runId)).toEqual({ 's/1': 'FAILED WORKER_LOST' });
      await end(await store.claim(await store.register()));
    });

    it('an attempt past its deadline is counted when its worker has renewed the lease since', async () => {
      const { runId, lease } = await beginOne();
      await store.database.advanceClock(TIMEOUT_MS - 1_000);
      await renewLeases(store.db, [lease]);
      await store.database.advanceClock(2_000);
      expect((await expireSteps(store.db, { limit: 10 })).taken).toBe(0);
      await renewLeases(store.db, [lease]);
      expect((await expireSteps(store.db, { limit: 10 })).taken).toBe(1);
      expect(await store.attempts(runId)).toEqual({ 's/1': 'FAILED STEP_TIMEOUT' });
      expect(await store.run(runId)).toMatchObject({ status: 'PENDING', lost_leases: 0 });
      await end(await store.claim(await store.register()));
    });

    it('timeouts of live workers are not delayed by any number of silent workers', async () => {
      const workerId = await store.register({ leaseMs: LEASE_MS });
      await store.start(20);
      const silent = await store.claim(workerId, 20);
      for (const lease of silent) await store.begin(lease, { timeoutMs: 1_000 });
      const { runId, lease } = await beginOne();
      await store.database.advanceClock(TIMEOUT_MS + 1_000);
      await renewLeases(store.db, [lease]);
      await expireSteps(store.db, { limit: 5 });
      expect(await store.attempts(runId)).toEqual({ 's/1': 'FAILED STEP_TIMEOUT' });
      await end([...silent, ...(await store.claim(await store.register()))]);
    });
  });

  describe('suspects', () => {
    /** Runs that have each lost a worker twice, alone. */
    const makeSuspects = async (count: number, maxLostLeases = 10) => {
      const runIds = await store.start(count, { maxLostLeases });
      for (let loss = 0; loss < 2; loss++) {
        for (let left = count; left > 0; ) {
          left -= (await store.claim(await store.register(), 1)).length;
        }
        await loseWorkers();
      }
      return runIds;
    };

    it('suspects are leased to a worker one at a time, beside other runs', async () => {
      const suspects = await makeSuspects(3);
      const others = await store.start(4);
      const workerId = await store.register();
      const first = await store.claim(workerId, 10);
      expect(first.map(({ runId }) => runId).filter((runId) => suspects.includes(runId))).toHaveLength(1);
      expect(first.map(({ runId }) => runId).filter((runId) => others.includes(runId))).toHaveLength(4);
      expect(await store.claim(workerId, 10)).toEqual([]);
      const second = await store.claim(await store.register(), 10);
      expect(second).toHaveLength(1);
      await end(first);
      const third = await store.claim(workerId, 10);
      expect(third).toHaveLength(1);
      await end([...second, ...third]);
    });

    it('a lost worker is counted for its suspect alone, not for other runs', async () => {
      const suspect = one(await makeSuspects(1));
      const others = await store.start(3);
      const workerId = await store.register();
      expect(await store.claim(workerId, 10)).toHaveLength(4);
      await loseWorkers();
      expect(await store.run(suspect)).toMatchObject({ lost_leases: 3, counted_losses: 3 });
      for (const runId of others) expect(await store.run(runId)).toMatchObject({ lost_leases: 1, counted_losses: 0 });
      await end(await store.claim(await store.register(), 10));
    });

    it('suspects are distinguished from other runs even when the leases expire one after the other', async () => {
      const suspect = one(await makeSuspects(1));
      const workerId = await store.register();
      one(await store.claim(workerId, 1));
      await store.database.advanceClock(5_000);
      const neighbour = one(await store.start());
      one(await store.claim(workerId, 1));
      await store.database.advanceClock(LEASE_MS - 4_000);
      expect((await reclaim()).runIds).toEqual([suspect]);
      await store.database.advanceClock(5_000);
      expect((await reclaim()).runIds).toEqual([neighbour]);
      expect(await store.run(suspect)).toMatchObject({ lost_leases: 3, counted_losses: 3 });
      expect(await store.run(neighbour)).toMatchObject({ lost_leases: 1, counted_losses: 0 });
      await store.database.advanceClock(OPTIONS.maxBackoffMs);
      await wakeSleepers(store.db, { limit: 10 });
      await end(await store.claim(await store.register(), 10));
    });

    it('a suspect that completes a step is no longer one, even when the run is then given back', async () => {
      const runId = one(await makeSuspects(1));
      const lease = one(await store.claim(await store.register()));
      await store.begin(lease);
      await completeSteps(store.db, [{ ...lease, stepId: 's', attemptNumber: 1, output: null, eventSeq: 1 }]);
      await releaseRuns(store.db, [{ ...lease, delayMs: 0, reason: '' }]);
      expect(await store.run(runId)).toMatchObject({ lost_leases: 0, suspect: false });
      await end(await store.claim(await store.register()));
    });
  });

  it('a run that kills every worker FAILs, and no run beside it does, for any number, times and order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          /** When each poison run is started, and how long after a claim it kills, in s. */
          poison: fc.array(fc.record({ at: fc.nat(120), after: fc.nat(90) }), { minLength: 1, maxLength: 4 }),
          /** How long the one step of each healthy run takes, in s. */
          healthy: fc.array(fc.record({ at: fc.nat(60), takes: fc.integer({ min: 1, max: 90 }) }), {
            minLength: 1,
            maxLength: 5,
          }),
          workers: fc.integer({ min: 1, max: 2 }),
        }),
        async ({ poison, healthy, workers }) => {
          const fates = await simulate(store, poison, healthy, workers);
          expect(fates).toEqual({
            poison: poison.map(() => 'FAILED TOO_MANY_LOST_LEASES'),
            healthy: healthy.map(() => 'COMPLETED'),
          });
        },
      ),
      {
        numRuns: Number(process.env.PERDURE_TEST_RUNS ?? 3),
        examples: [
          [
            {
              poison: [0, 9, 18, 27, 36].map((at) => ({ at, after: 0 })),
              healthy: [0, 0, 0, 0, 0].map((at) => ({ at, takes: 60 })),
              workers: 1,
            },
          ],
        ],
      },
    );
  }, 120_000);
});

/** Second by second: workers claim, poison kills them, other workers come, the reaper sweeps. */
async function simulate(
  store: TestStore,
  poison: readonly { readonly at: number; readonly after: number }[],
  healthy: readonly { readonly at: number; readonly takes: number }[],
  workers: number,
) {
  const STEP_S = 5;
  const LEASE_S = 30;
  const starts = [
    ...poison.map(({ at, after }) => ({ at, lasts: after, kills: true })),
    ...healthy.map(({ at, takes }) => ({ at, lasts: takes, kills: false })),
  ];
  const runIds: string[] = starts.map(() => '');
  type Held = { readonly lease: LeaseRef; readonly endsAt: number; readonly kills: boolean };
  let alive: { readonly workerId: string; held: Held[] }[] = [];
  const isOpen = async () => {
    const rows = await store.database.sql`select 1 from perdure.workflow_runs where finished_at is null limit 1`;
    return rows.length > 0 || runIds.includes('');
  };
  for (let now = 0; await isOpen(); now += STEP_S) {
    if (now > 20_000) throw new Error('The runs come to no end.');
    for (const [index, { at }] of starts.entries()) {
      if (at <= now && runIds[index] === '') runIds[index] = (await store.start())[0] as string;
    }
    while (alive.length < workers) {
      alive.push({ workerId: await store.register({ leaseMs: LEASE_S * 1_000 }), held: [] });
    }
    for (const worker of alive) {
      for (const lease of await store.claim(worker.workerId, 10)) {
        const { lasts, kills } = starts[runIds.indexOf(lease.runId)] as (typeof starts)[number];
        worker.held.push({ lease, endsAt: now + lasts, kills });
      }
    }
    alive = alive.filter(({ held }) => !held.some(({ endsAt, kills }) => kills && endsAt <= now));
    for (const worker of alive) {
      const done = worker.held.filter(({ endsAt }) => endsAt <= now).map(({ lease }) => lease);
      worker.held = worker.held.filter(({ endsAt }) => endsAt > now);
      if (done.length > 0) {
        await endRuns(
          store.db,
          done.map((lease) => ({ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false })),
        );
      }
      await renewLeases(
        store.db,
        worker.held.map(({ lease }) => lease),
      );
    }
    await store.database.advanceClock(STEP_S * 1_000);
    await reclaimLeases(store.db, OPTIONS);
    await wakeSleepers(store.db, { limit: 1_000 });
  }
  const fate = async (runId: string) => {
    const { status, failure } = await store.run(runId);
    return failure === null ? status : `${status as string} ${(failure as { reason: string }).reason}`;
  };
  return {
    poison: await Promise.all(runIds.slice(0, poison.length).map(fate)),
    healthy: await Promise.all(runIds.slice(poison.length).map(fate)),
  };
}
