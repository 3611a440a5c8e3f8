/** A run that a worker keeps in memory is leased to that worker by the statement that wakes it. */
import {
  awaitSteps,
  type ClaimedRun,
  cancelRuns,
  claimRuns,
  type KeeperSlots,
  type LeaseRef,
  pauseDispatch,
  pauseRuns,
  type SendSignalOutcome,
  sendSignals,
  suspendRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Seeded } from '../support/seeded.js';
import { openTestStore, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 300);
const AT_ONCE = 25;
const namespace = 'default';

describe('a run that its worker keeps in memory', () => {
  let store: TestStore;
  let workerId: string;
  const random = new Seeded(11);
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  afterEach(async () => {
    await store.database
      .sql`truncate perdure.workflow_runs, perdure.step_runs, perdure.signals, perdure.dispatch_pauses`;
  });

  /** Runs that wait for the signal 'go', suspended by the worker. */
  const suspended = async (count: number, isKept = true): Promise<LeaseRef[]> => {
    await store.start(count);
    const leases = await store.claim(workerId, count);
    expect(leases).toHaveLength(count);
    const wait = { stepId: 'go', seq: 1, stepKind: 'SIGNAL' as const, attemptNumber: 1, awaits: 'go' };
    const more = { timeoutMs: null, eventSeq: 2, uncancellable: false };
    await awaitSteps(
      store.db,
      leases.map((lease) => ({ ...lease, ...wait, ...more })),
    );
    const outcomes = await suspendRuns(
      store.db,
      leases.map((lease) => ({ ...lease, waits: [], arrivalsAwaited: 1, isKept })),
    );
    expect(outcomes.every(({ kind }) => kind === 'suspended')).toBe(true);
    return leases;
  };
  /** A slot of the worker for every run. */
  const slotsOf = (worker: string, claims: (ClaimedRun | null)[]): KeeperSlots => ({
    reserve: (runIds) => ({
      slots: runIds.map(() => ({ workerId: worker })),
      settle: (settled) => void claims.push(...settled),
    }),
  });
  const send = async (runId: string, worker: string) => {
    const claims: (ClaimedRun | null)[] = [];
    const payload = { data: new TextEncoder().encode('1'), encoding: 'json' };
    const command = { namespace, runId, name: 'go', payload, requestId: null, sender: '', maxUnconsumed: 10 };
    const [outcome] = await sendSignals(store.db, [command], slotsOf(worker, claims));
    return { outcome: outcome as SendSignalOutcome, claim: claims[0] ?? null };
  };

  it('is leased with what has arrived, and without a memo', async () => {
    const [lease] = (await suspended(1)) as [LeaseRef];
    const { outcome, claim } = await send(lease.runId, workerId);
    expect(outcome).toMatchObject({ kind: 'sent', effect: { kind: 'leased' } });
    expect(claim).toMatchObject({
      run: { runId: lease.runId, leaseToken: lease.leaseToken + 1, workflowType: 'w' },
      arrivals: [{ stepId: 'go', status: 'COMPLETED', leaseToken: lease.leaseToken + 1, eventSeq: 1 }],
      memo: [],
      hasArrivals: false,
    });
    expect(await store.run(lease.runId)).toMatchObject({ status: 'RUNNING', leased_by: workerId, suspended_by: null });
    expect(await store.claim(workerId)).toEqual([]);
  });

  for (const [what, prepare, worker] of [
    ['another worker has the slot', async () => undefined, uuid()],
    ['it is paused', (runId: string) => pauseRuns(store.db, [{ namespace, runId, by: '', reason: '' }]), undefined],
    [
      'its queue is paused',
      () => pauseDispatch(store.db, { namespace, kind: 'TASK_QUEUE', name: 'q', pausedBy: '', reason: '' }),
      undefined,
    ],
    [
      'its type is paused',
      () => pauseDispatch(store.db, { namespace, kind: 'WORKFLOW_TYPE', name: 'w', pausedBy: '', reason: '' }),
      undefined,
    ],
    [
      'its worker gets no more runs',
      () =>
        store.database
          .sql`update perdure.workers set status = 'DRAINING', drain_requested_at = now() where worker_id = ${workerId}`,
      undefined,
    ],
  ] as const) {
    it(`is only woken when ${what}`, async () => {
      const [lease] = (await suspended(1)) as [LeaseRef];
      await prepare(lease.runId);
      const { outcome, claim } = await send(lease.runId, worker ?? workerId);
      await store.database
        .sql`update perdure.workers set status = 'ONLINE', drain_requested_at = null where worker_id = ${workerId}`;
      expect(outcome).toMatchObject({ kind: 'sent', effect: { kind: 'woken' } });
      expect(claim).toBeNull();
      expect(await store.run(lease.runId)).toMatchObject({ status: 'PENDING', lease_token: lease.leaseToken });
    });
  }

  it('is only woken when its worker does not keep it', async () => {
    const [lease] = (await suspended(1, false)) as [LeaseRef];
    const { outcome, claim } = await send(lease.runId, workerId);
    expect([outcome.kind, claim]).toEqual(['sent', null]);
    expect(await store.run(lease.runId)).toMatchObject({ status: 'PENDING' });
  });

  it('is leased once by two signals, and only once beside a claim', async () => {
    for (const rival of ['signal', 'claim'] as const) {
      const runs = await suspended(PAIRS);
      const other = await store.register();
      await inLanes(runs, async ({ runId, leaseToken }) => {
        const claims = () =>
          claimRuns(
            store.db,
            { namespace, taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId: other }] },
            { memoPageBytes: 1e6, memoPageEntries: 100 },
          );
        const [first, second] = await Promise.all([
          send(runId, workerId),
          rival === 'signal' ? send(runId, workerId) : claims(),
        ]);
        expect(first.outcome.kind).toBe('sent');
        if (rival === 'claim') return;
        const leased = [first, second as typeof first].filter(({ claim }) => claim !== null);
        expect(leased).toHaveLength(1);
        expect(await store.run(runId)).toMatchObject({ status: 'RUNNING', lease_token: leaseToken + 1 });
      });
      const rows = await store.database.sql<{ n: number; tokens: number }[]>`
        select count(*)::int as n, max(lease_token)::int as tokens from perdure.workflow_runs
        where status in ('RUNNING', 'PENDING')`;
      expect(rows[0]).toEqual({ n: PAIRS, tokens: 2 });
      const received = await store.database.sql<{ n: number }[]>`
        select count(*)::int as n from perdure.step_runs where step_id = 'go' and status = 'COMPLETED' and event_seq = 1`;
      if (rival === 'signal') expect(received[0]?.n).toBe(PAIRS);
      await store.database.sql`truncate perdure.workflow_runs, perdure.step_runs, perdure.signals`;
    }
  });

  for (const [what, rival, statuses] of [
    ['a cancel', (runId: string) => cancelRuns(store.db, [{ namespace, runId, reason: '' }]), ['RUNNING', 'PENDING']],
    ['its termination', (runId: string) => terminateRuns(store.db, [{ namespace, runId, reason: '' }]), ['TERMINATED']],
    [
      'a pause',
      (runId: string) => pauseRuns(store.db, [{ namespace, runId, by: '', reason: '' }]),
      ['RUNNING', 'PENDING'],
    ],
  ] as const) {
    it(`is leased before ${what} or not at all`, async () => {
      const runs = await suspended(PAIRS);
      await inLanes(runs, async ({ runId, leaseToken }) => {
        const both = [() => send(runId, workerId), () => rival(runId)] as const;
        const isSignalFirst = random.chance(0.5);
        const answers = await Promise.all((isSignalFirst ? both : [...both].reverse()).map((call) => call()));
        const { outcome, claim } = answers[isSignalFirst ? 0 : 1] as Awaited<ReturnType<typeof send>>;
        const run = await store.run(runId);
        expect(statuses).toContain(run.status);
        if (run.status === 'TERMINATED') expect(['sent', 'closed', 'run_closed']).toContain(outcome.kind);
        else {
          expect(outcome.kind).toBe('sent');
          expect([run.status, run.lease_token]).toEqual(
            claim === null ? ['PENDING', leaseToken] : ['RUNNING', leaseToken + 1],
          );
        }
      });
    });
  }

  async function inLanes(runs: readonly LeaseRef[], work: (lease: LeaseRef) => Promise<void>): Promise<void> {
    const left = [...runs];
    const lane = async () => {
      for (let lease = left.pop(); lease !== undefined; lease = left.pop()) await work(lease);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
  }
});
