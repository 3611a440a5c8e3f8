import {
  type AwaitStep,
  awaitSteps,
  cancelRuns,
  endRuns,
  type LeaseRef,
  publishEvents,
  settlePromises,
  settleSteps,
  spreadEvents,
  suspendRuns,
  takeArrivals,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Seeded } from '../support/seeded.js';
import { openTestStore, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 200);
/** Pairs under way at once: more than the connections, so that statements wait for each other. */
const AT_ONCE = 25;

interface Facts {
  readonly status: string;
  readonly has_arrivals: boolean;
  readonly step: string | null;
  readonly is_arrived: boolean | null;
}

/** An event or a settlement against everything else that happens to the run at the same moment: one of the two was first. */
describe.each(['EVENT', 'PROMISE'] as const)('an arrival of kind %s races', (stepKind) => {
  let store: TestStore;
  let workerId: string;
  const random = new Seeded(11);
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  afterEach(async () => {
    const open = await store.database.sql<{ run_id: string }[]>`
      select run_id from perdure.workflow_runs where finished_at is null`;
    await terminateRuns(
      store.db,
      open.map((row) => ({ namespace: 'default', runId: row.run_id, reason: '' })),
    );
  });

  const leases = async (): Promise<LeaseRef[]> => {
    await store.start(PAIRS);
    return store.claim(workerId, PAIRS);
  };
  const waiting = (lease: LeaseRef, more: Partial<AwaitStep> = {}): AwaitStep => ({
    ...lease,
    stepId: 'go',
    seq: 1,
    stepKind,
    attemptNumber: 1,
    awaits:
      stepKind === 'PROMISE'
        ? lease.runId
        : JSON.stringify({ namespace: 'default', name: 'go', key: lease.runId, lookBackMs: 3_600_000 }),
    timeoutMs: null,
    eventSeq: 1,
    uncancellable: false,
    ...more,
  });
  /** @returns whether the run had it at once */
  const bring = async ({ runId }: LeaseRef): Promise<boolean> => {
    if (stepKind === 'PROMISE') {
      const outcome = { kind: 'resolved', value: null } as const;
      const [settled] = await settlePromises(store.db, [{ namespace: null, promiseId: runId, outcome }]);
      return settled?.kind === 'settled';
    }
    const event = { namespace: 'default', eventId: uuid(), name: 'go', key: runId, payload: null, requestId: null };
    const [published] = await publishEvents(store.db, [{ ...event, retentionMs: 3_600_000 }]);
    return published?.kind === 'published' && published.received === 1;
  };
  const spreadAll = async () => {
    while ((await spreadEvents(store.db)).hasMore);
  };
  const factsOf = async (runId: string): Promise<Facts> => {
    const [facts] = await store.database.sql<Facts[]>`
      select r.status, r.has_arrivals, s.status as step, s.is_arrived
      from perdure.workflow_runs r
      left join perdure.step_runs s on s.run_id = r.run_id and s.step_id = 'go' and s.is_latest
      where r.run_id = ${runId}`;
    return facts as Facts;
  };

  /** @returns for each pair, what came of the rival */
  async function race<Outcome>(runs: readonly LeaseRef[], rival: (lease: LeaseRef) => Promise<Outcome>) {
    const outcomes: { readonly runId: string; readonly had: boolean; readonly other: Outcome }[] = [];
    const left = [...runs];
    const lane = async () => {
      for (let lease = left.pop(); lease !== undefined; lease = left.pop()) {
        const { runId } = lease;
        const of = lease;
        if (random.chance(0.5)) {
          const [had, other] = await Promise.all([bring(of), rival(of)]);
          outcomes.push({ runId, had, other });
        } else {
          const [other, had] = await Promise.all([rival(of), bring(of)]);
          outcomes.push({ runId, had, other });
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    await spreadAll();
    return outcomes;
  }
  const begun = async () => {
    const runs = await leases();
    await awaitSteps(
      store.db,
      runs.map((lease) => waiting(lease)),
    );
    return runs;
  };

  it('the beginning of the wait: what was there before is found, what comes after finds the wait', async () => {
    const outcomes = await race(
      await leases(),
      async (lease) => (await awaitSteps(store.db, [waiting(lease)]))[0]?.kind,
    );
    for (const { runId, had } of outcomes) {
      // A promise that is not recorded yet cannot be settled, and its caller is told so.
      const isMissed = stepKind === 'PROMISE' && !had;
      expect(await factsOf(runId)).toMatchObject({ step: isMissed ? 'RUNNING' : 'COMPLETED' });
    }
  });

  it('the suspension: it is refused, or the run wakes', async () => {
    const outcomes = await race(
      await begun(),
      async (lease) =>
        (await suspendRuns(store.db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]))[0]?.kind,
    );
    for (const { runId, other } of outcomes) {
      expect(await factsOf(runId)).toEqual({
        status: other === 'suspended' ? 'PENDING' : 'RUNNING',
        step: 'COMPLETED',
        is_arrived: true,
        has_arrivals: true,
      });
    }
    expect(new Set(outcomes.map(({ other }) => other))).toEqual(new Set(['suspended', 'not_suspended']));
  });

  it('a worker that takes: it gets the outcome now or with the next call, once', async () => {
    const runs = await begun();
    const take = async (lease: LeaseRef, eventSeq: number) => {
      const [taken] = await takeArrivals(store.db, [{ ...lease, eventSeq, dueStepIds: [] }]);
      return taken?.kind === 'taken' ? taken.arrivals.length : -1;
    };
    const outcomes = await race(runs, (lease) => take(lease, 1));
    for (const { runId, other } of outcomes) {
      const lease = runs.find((candidate) => candidate.runId === runId) as LeaseRef;
      expect([other, await take(lease, 2)].sort()).toEqual([0, 1]);
    }
  });

  it('the end of the run and its termination: the wait has the outcome or is cancelled', async () => {
    const runs = await begun();
    const outcomes = await race(runs, async (lease) =>
      random.chance(0.5)
        ? (
            await endRuns(store.db, [
              { ...lease, end: 'FAILED', failure: { type: 'E', message: 'm', reason: 'APPLICATION' } },
            ])
          )[0]?.kind
        : (await terminateRuns(store.db, [{ ...lease, reason: '' }]))[0]?.kind,
    );
    for (const { runId, had, other } of outcomes) {
      expect(['ended', 'terminated']).toContain(other);
      const { step } = await factsOf(runId);
      if (had) expect(step).toBe('COMPLETED');
      else expect(['COMPLETED', 'CANCELLED']).toContain(step);
    }
  });

  it('a cancel: what has come before it stays', async () => {
    const runs = await begun();
    await cancelRuns(
      store.db,
      runs.map(({ namespace, runId }) => ({ namespace, runId, reason: '' })),
    );
    const outcomes = await race(runs, async (lease) => {
      const settle = {
        ...lease,
        stepId: 'go',
        seq: 1,
        stepKind,
        attemptNumber: 1,
        status: 'CANCELLED' as const,
        eventSeq: 1,
      };
      return (await settleSteps(store.db, [settle]))[0]?.kind;
    });
    for (const { runId, other } of outcomes) {
      expect(await factsOf(runId)).toMatchObject({ step: other === 'arrived' ? 'COMPLETED' : 'CANCELLED' });
    }
    expect(new Set(outcomes.map(({ other }) => other))).toEqual(new Set(['settled', 'arrived']));
  });
});
