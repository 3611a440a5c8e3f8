import {
  type AwaitStep,
  awaitSteps,
  cancelRuns,
  type LeaseRef,
  type SendSignalOutcome,
  sendSignals,
  settleSteps,
  suspendRuns,
  takeArrivals,
  terminateRuns,
  wakeSleepers,
} from '@perdure/store';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Seeded } from '../support/seeded.js';
import { openTestStore, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 1_000);
/** Pairs under way at once: more than the connections, so that statements wait for each other. */
const AT_ONCE = 25;

interface Facts {
  readonly status: string;
  readonly has_arrivals: boolean;
  readonly step: string | null;
  readonly is_arrived: boolean | null;
  readonly unconsumed: number;
  readonly signals: number;
}

/** A signal against everything else that happens to the run at the same moment: one of the two was first, and nothing is lost. */
describe('a signal races', () => {
  let store: TestStore;
  let workerId: string;
  const random = new Seeded(7);
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
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

  const leases = async (): Promise<LeaseRef[]> => {
    await store.start(PAIRS);
    const all = await store.claim(workerId, PAIRS);
    expect(all).toHaveLength(PAIRS);
    return all;
  };
  const waiting = (lease: LeaseRef, more: Partial<AwaitStep> = {}): AwaitStep => ({
    ...lease,
    stepId: 'go',
    seq: 1,
    stepKind: 'SIGNAL',
    attemptNumber: 1,
    awaits: 'go',
    timeoutMs: null,
    eventSeq: 1,
    uncancellable: false,
    ...more,
  });
  const send = async ({ namespace, runId }: LeaseRef): Promise<SendSignalOutcome> => {
    const command = { namespace, runId, name: 'go', payload: null, requestId: null, sender: '', maxUnconsumed: 10 };
    const [outcome] = await sendSignals(store.db, [command]);
    return outcome as SendSignalOutcome;
  };
  const factsOf = async (runId: string): Promise<Facts> => {
    const [facts] = await store.database.sql<Facts[]>`
      select r.status, r.has_arrivals, s.status as step, s.is_arrived,
        (select count(*)::int from perdure.signals g where g.run_id = r.run_id and g.consumed_by is null) as unconsumed,
        (select count(*)::int from perdure.signals g where g.run_id = r.run_id) as signals
      from perdure.workflow_runs r
      left join perdure.step_runs s on s.run_id = r.run_id and s.step_id = 'go' and s.is_latest
      where r.run_id = ${runId}`;
    return facts as Facts;
  };

  /** Sends a signal to each run beside the rival, in a random order, and checks what came of each pair. */
  async function race(
    runs: readonly LeaseRef[],
    rival: (lease: LeaseRef) => Promise<unknown>,
    check: (facts: Facts, sent: SendSignalOutcome, other: unknown) => unknown,
  ): Promise<Set<string>> {
    const outcomes = new Set<string>();
    const left = [...runs];
    const lane = async () => {
      for (let lease = left.pop(); lease !== undefined; lease = left.pop()) {
        const both: [() => Promise<unknown>, () => Promise<unknown>] = [() => send(lease), () => rival(lease)];
        const signalFirst = random.chance(0.5);
        const [first, second] = signalFirst ? both : [both[1], both[0]];
        const answers = await Promise.all([first(), second()]);
        const [sent, other] = signalFirst ? answers : [answers[1], answers[0]];
        const facts = await factsOf(lease.runId);
        outcomes.add(String(check(facts, sent as SendSignalOutcome, other)));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    return outcomes;
  }

  it('the beginning of the wait: the step has it, whoever was first', async () => {
    const outcomes = await race(
      await leases(),
      async (lease) => (await awaitSteps(store.db, [waiting(lease)]))[0]?.kind,
      (facts, sent, begun) => {
        expect(sent.kind).toBe('sent');
        expect(facts).toMatchObject({ step: 'COMPLETED', unconsumed: 0, has_arrivals: begun === 'waiting' });
        return begun;
      },
    );
    expect([...outcomes].sort()).toEqual(['arrived', 'waiting']);
  });

  it('the suspension: it is refused, or the signal wakes the run', async () => {
    const runs = await leases();
    await awaitSteps(
      store.db,
      runs.map((lease) => waiting(lease)),
    );
    const outcomes = await race(
      runs,
      async (lease) =>
        (await suspendRuns(store.db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]))[0]?.kind,
      (facts, sent, suspended) => {
        expect(sent).toMatchObject({ kind: 'sent', effect: { kind: suspended === 'suspended' ? 'woken' : 'arrived' } });
        expect(facts).toMatchObject({
          status: suspended === 'suspended' ? 'PENDING' : 'RUNNING',
          step: 'COMPLETED',
          is_arrived: true,
          has_arrivals: true,
          unconsumed: 0,
        });
        return suspended;
      },
    );
    expect([...outcomes].sort()).toEqual(['not_suspended', 'suspended']);
  });

  it('its timeout, found by the worker: one of the two ended the step', async () => {
    const runs = await leases();
    await awaitSteps(
      store.db,
      runs.map((lease) => waiting(lease, { timeoutMs: 1 })),
    );
    const outcomes = await race(
      runs,
      async (lease) => (await takeArrivals(store.db, [{ ...lease, eventSeq: 1, dueStepIds: ['go'] }]))[0],
      (facts, sent, taken) => {
        expect(sent.kind).toBe('sent');
        const timedOut = facts.step === 'TIMED_OUT';
        expect(facts).toMatchObject({ step: timedOut ? 'TIMED_OUT' : 'COMPLETED', unconsumed: timedOut ? 1 : 0 });
        expect(taken).toMatchObject({ kind: 'taken', arrivals: [{ status: facts.step }] });
        expect(facts).toMatchObject({ has_arrivals: false, is_arrived: false });
        return facts.step;
      },
    );
    expect([...outcomes].sort()).toEqual(['COMPLETED', 'TIMED_OUT']);
  });

  it('its timeout, found by the reaper: one of the two ended the step, and the run is awake', async () => {
    const runs = await leases();
    await awaitSteps(
      store.db,
      runs.map((lease) => waiting(lease, { timeoutMs: 60_000 })),
    );
    await suspendRuns(
      store.db,
      runs.map((lease) => ({
        ...lease,
        waits: [{ stepId: 'go', on: 'ARRIVAL' as const }],
        arrivalsAwaited: 1,
        isKept: false,
      })),
    );
    const ids = runs.map(({ runId }) => runId);
    await store.database.sql`update perdure.step_runs set fires_at = now() where run_id in ${store.database.sql(ids)}`;
    await store.database
      .sql`update perdure.workflow_runs set wake_at = now() where run_id in ${store.database.sql(ids)}`;
    const outcomes = await race(
      runs,
      () => wakeSleepers(store.db, { limit: 3 }),
      (facts, sent) => {
        expect(sent.kind).toBe('sent');
        const timedOut = facts.step === 'TIMED_OUT';
        expect(facts).toMatchObject({
          status: 'PENDING',
          step: timedOut ? 'TIMED_OUT' : 'COMPLETED',
          unconsumed: timedOut ? 1 : 0,
          is_arrived: true,
          has_arrivals: true,
        });
        return facts.step;
      },
    );
    expect([...outcomes].sort()).toEqual(['COMPLETED', 'TIMED_OUT']);
  });

  it('the cancel of the run: the wait is cancelled and the signal kept, or the signal is received', async () => {
    const runs = await leases();
    await awaitSteps(
      store.db,
      runs.map((lease) => waiting(lease)),
    );
    const outcomes = await race(
      runs,
      async (lease) => {
        await cancelRuns(store.db, [{ ...lease, reason: '' }]);
        const settled = { ...lease, stepId: 'go', seq: 1, stepKind: 'SIGNAL', attemptNumber: 1, eventSeq: 1 } as const;
        return (await settleSteps(store.db, [{ ...settled, status: 'CANCELLED' }]))[0]?.kind;
      },
      (facts, sent, settled) => {
        expect(sent.kind).toBe('sent');
        const received = settled === 'arrived';
        expect(facts).toMatchObject({
          step: received ? 'COMPLETED' : 'CANCELLED',
          has_arrivals: received,
          unconsumed: received ? 0 : 1,
        });
        return settled;
      },
    );
    expect([...outcomes].sort()).toEqual(['arrived', 'settled']);
  });
});
