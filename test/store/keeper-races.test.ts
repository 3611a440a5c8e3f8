import {
  awaitSteps,
  type ClaimedRun,
  cancelRuns,
  expireRuns,
  type LeaseRef,
  reclaimLeases,
  type SendSignal,
  type SendSignalOutcome,
  sendSignals,
  suspendRuns,
  terminateRuns,
  wakeSleepers,
} from '@perdure/store';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { offerSlots } from '../support/keepers.js';
import { Seeded } from '../support/seeded.js';
import { openTestStore, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 300);
/** Pairs under way at once: more than the connections, so that statements wait for each other. */
const AT_ONCE = 25;

interface Facts {
  readonly status: string;
  readonly lease_token: number;
  readonly leased_by: string | null;
  readonly suspended_by: string | null;
  readonly has_arrivals: boolean;
  readonly step: string;
  readonly is_arrived: boolean;
  readonly place: number | null;
  readonly unconsumed: number;
}
interface Sent {
  readonly outcome: SendSignalOutcome;
  readonly claims: readonly ClaimedRun[];
}

/** A signal that leases the run which it wakes, against everything else that happens to the run at the same moment. */
describe('a signal that leases its run races', () => {
  let store: TestStore;
  let keeper: string;
  const random = new Seeded(11);
  beforeAll(async () => {
    store = await openTestStore();
    keeper = await store.register();
  });
  afterAll(() => store.stop());
  // No test gets a run of another one.
  afterEach(async () => {
    const open = await store.database.sql<{ run_id: string }[]>`
      select run_id from perdure.workflow_runs where finished_at is null`;
    await terminateRuns(
      store.db,
      open.map((row) => ({ namespace: 'default', runId: row.run_id, reason: '' })),
    );
  });

  const suspended = async (timeoutMs: number | null = null): Promise<LeaseRef[]> => {
    await store.start(PAIRS);
    const runs = await store.claim(keeper, PAIRS);
    expect(runs).toHaveLength(PAIRS);
    await awaitSteps(
      store.db,
      runs.map((lease) => ({
        ...lease,
        stepId: 'go',
        seq: 1,
        stepKind: 'SIGNAL' as const,
        attemptNumber: 1,
        awaits: 'go',
        timeoutMs,
        eventSeq: 1,
        uncancellable: false,
      })),
    );
    const waits = timeoutMs === null ? [] : [{ stepId: 'go', on: 'ARRIVAL' as const }];
    await suspendRuns(
      store.db,
      runs.map((lease) => ({ ...lease, waits, arrivalsAwaited: 1, isKept: true })),
    );
    return runs;
  };
  const signalTo = ({ namespace, runId }: LeaseRef): SendSignal => ({
    namespace,
    runId,
    name: 'go',
    payload: null,
    requestId: null,
    sender: '',
    maxUnconsumed: 10,
  });
  const send = async (run: LeaseRef): Promise<Sent> => {
    const slots = offerSlots(keeper);
    const [outcome] = await sendSignals(store.db, [signalTo(run)], slots);
    expect(slots.open).toBe(0);
    return { outcome: outcome as SendSignalOutcome, claims: slots.claims };
  };
  const factsOf = async (runId: string): Promise<Facts> => {
    const [facts] = await store.database.sql<Facts[]>`
      select r.status, r.lease_token, r.leased_by, r.suspended_by, r.has_arrivals, s.status as step, s.is_arrived,
        s.event_seq as place,
        (select count(*)::int from perdure.signals g where g.run_id = r.run_id and g.consumed_by is null) as unconsumed
      from perdure.workflow_runs r
      join perdure.step_runs s on s.run_id = r.run_id and s.step_id = 'go' and s.is_latest
      where r.run_id = ${runId}`;
    return facts as Facts;
  };

  async function race(
    runs: readonly LeaseRef[],
    rival: (lease: LeaseRef) => Promise<unknown>,
    check: (facts: Facts, sent: Sent, other: unknown) => unknown,
  ): Promise<Set<string>> {
    const outcomes = new Set<string>();
    const left = [...runs];
    const lane = async () => {
      for (let lease = left.pop(); lease !== undefined; lease = left.pop()) {
        const { runId } = lease;
        const ours = () => send(lease as LeaseRef);
        const theirs = () => rival(lease as LeaseRef);
        const signalFirst = random.chance(0.5);
        const answers = await Promise.all(signalFirst ? [ours(), theirs()] : [theirs(), ours()]);
        const [sent, other] = signalFirst ? answers : [answers[1], answers[0]];
        outcomes.add(String(check(await factsOf(runId), sent as Sent, other)));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    return outcomes;
  }
  /** The keeper holds the next lease and has taken the signal with it. */
  const expectLeased = (facts: Facts, { claims }: Sent) => {
    expect(claims).toMatchObject([{ run: { leaseToken: 2 }, arrivals: [{ stepId: 'go', status: 'COMPLETED' }] }]);
    expect(facts).toMatchObject({
      status: 'RUNNING',
      lease_token: 2,
      leased_by: keeper,
      suspended_by: null,
      has_arrivals: false,
      step: 'COMPLETED',
      is_arrived: false,
      place: 1,
    });
  };

  it('a claim: one of the two leases the run', async () => {
    const other = await store.register();
    const claimed = new Set<string>();
    await race(
      await suspended(),
      async () => {
        for (const { runId } of await store.claim(other, 5)) claimed.add(runId);
      },
      // The keeper is leased the run by the statement that makes it claimable, so no claim can come between.
      (facts, sent) => expectLeased(facts, sent),
    );
    expect([...claimed]).toEqual([]);
  });

  it('another signal: one leases the run, the other one is kept, and its worker gets a notice when it waits', async () => {
    const outcomes = await race(await suspended(), send, (facts, sent, other) => {
      const claims = [...sent.claims, ...(other as Sent).claims];
      expectLeased(facts, { ...sent, claims });
      expect(facts.unconsumed).toBe(1);
      return sent.claims.length;
    });
    expect([...outcomes].sort()).toEqual(['0', '1']);
  });

  it('a cancel: the keeper has the lease and is told, or it comes with the claim', async () => {
    const outcomes = await race(
      await suspended(),
      async (lease) => (await cancelRuns(store.db, [{ ...lease, reason: '' }]))[0],
      (facts, sent, cancelled) => {
        expectLeased(facts, sent);
        const isFirst = sent.claims[0]?.run.cancelRequestedAt !== null;
        expect(cancelled).toMatchObject({
          kind: 'requested',
          holder: isFirst ? null : { workerId: keeper, leaseToken: 2 },
        });
        return isFirst;
      },
    );
    expect([...outcomes].sort()).toEqual(['false', 'true']);
  });

  it('a terminate: the run ends, and its keeper is told when it was leased before', async () => {
    const outcomes = await race(
      await suspended(),
      async (lease) => (await terminateRuns(store.db, [{ ...lease, reason: '' }]))[0],
      (facts, { outcome, claims }, terminated) => {
        expect(facts).toMatchObject({ status: 'TERMINATED', leased_by: null });
        expect(outcome.kind).toBe(claims.length === 0 ? 'run_closed' : 'sent');
        expect(terminated).toMatchObject({
          kind: 'terminated',
          holder: claims.length === 0 ? null : { workerId: keeper, leaseToken: 2 },
        });
        return outcome.kind;
      },
    );
    expect([...outcomes].sort()).toEqual(['run_closed', 'sent']);
  });

  it('the timeout of the wait: one of the two ended the step, and the run is leased or claimable', async () => {
    const runs = await suspended(60_000);
    const ids = store.database.sql(runs.map(({ runId }) => runId));
    await store.database.sql`update perdure.step_runs set fires_at = now() where run_id in ${ids}`;
    await store.database.sql`update perdure.workflow_runs set wake_at = now() where run_id in ${ids}`;
    const outcomes = await race(
      runs,
      () => wakeSleepers(store.db, { limit: 3 }),
      (facts, sent) => {
        expect(sent.outcome.kind).toBe('sent');
        // A signal to a run that the timeout has woken, and nobody has claimed, leases it as well.
        expect(facts).toMatchObject({
          status: 'RUNNING',
          lease_token: 2,
          leased_by: keeper,
          is_arrived: false,
          place: 1,
        });
        expect(sent.claims).toMatchObject([{ arrivals: [{ stepId: 'go', status: facts.step }] }]);
        expect(facts.unconsumed).toBe(facts.step === 'TIMED_OUT' ? 1 : 0);
        return facts.step;
      },
    );
    expect([...outcomes].sort()).toEqual(['COMPLETED', 'TIMED_OUT']);
  });

  it('the timeout of the run: it ends, and a lease that was given before is lost', async () => {
    const runs = await suspended();
    const ids = store.database.sql(runs.map(({ runId }) => runId));
    await store.database.sql`update perdure.workflow_runs set run_deadline_at = now() where run_id in ${ids}`;
    await race(
      runs,
      () => expireRuns(store.db, { limit: 3 }),
      (_, { outcome, claims }) => expect(outcome.kind).toBe(claims.length === 0 ? 'run_closed' : 'sent'),
    );
    while ((await expireRuns(store.db, { limit: 1_000 })).length > 0);
    const [row] = await store.database.sql<{ open: number }[]>`
      select count(*)::int as open from perdure.workflow_runs where run_id in ${ids} and (finished_at is null or leased_by is not null)`;
    expect(row?.open).toBe(0);
  });

  it('the reclaim of the lease: it is lost as any other, the signal stays taken, and the next lease has it in its memo', async () => {
    const runs = await suspended();
    const short = await store.register({ workerId: keeper, leaseMs: 1_000 });
    const slots = offerSlots(keeper);
    await sendSignals(store.db, runs.map(signalTo), slots);
    expect(slots.claims).toHaveLength(PAIRS);
    const ids = store.database.sql(runs.map(({ runId }) => runId));
    await store.database
      .sql`update perdure.workflow_runs set lease_expires_at = now() - interval '1 s' where run_id in ${ids}`;
    await race(
      runs,
      () => reclaimLeases(store.db, { limit: 3, backoffMs: 0, maxBackoffMs: 0, serverGraceMs: 0 }),
      (facts, { outcome }) => {
        expect(outcome).toMatchObject({ kind: 'sent' });
        expect(facts).toMatchObject({ step: 'COMPLETED', is_arrived: false, place: 1, unconsumed: 1 });
        // Its code may be anywhere in the run now: nobody keeps it.
        if (facts.status === 'PENDING') expect(facts).toMatchObject({ lease_token: 2, suspended_by: null });
        else expect(facts).toMatchObject({ status: 'RUNNING', lease_token: 2, leased_by: short });
      },
    );
    await store.register({ workerId: keeper });
  });
});
