import {
  type AwaitStep,
  awaitSteps,
  beginSteps,
  cancelRuns,
  claimRuns,
  completeSteps,
  endRuns,
  endRunsWithStep,
  expireSteps,
  failSteps,
  holdRuns,
  type LeaseRef,
  observeCancels,
  pauseRuns,
  recordSteps,
  releaseRuns,
  renewLeases,
  resumeRuns,
  retryRunAttempts,
  scheduleSleeps,
  sendSignals,
  startChildren,
  suspendRuns,
  takeArrivals,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Seeded } from '../support/seeded.js';
import { beginCommand, FAILURE, openTestStore, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 200);
/** Pairs under way at once: more than the connections, so that statements wait for each other. */
const AT_ONCE = 25;

interface Facts {
  readonly status: string;
  readonly paused: boolean;
  readonly lease_token: number;
  readonly cancel_requested: boolean;
  readonly has_arrivals: boolean;
  /** Step `s`, and step `go`, which waits. */
  readonly s: string | null;
  readonly go: string | null;
  readonly pauses: number;
  readonly open_pauses: number;
}

type Kind = { readonly kind: string };
type Rival = (lease: LeaseRef) => Promise<unknown>;
type Check = (facts: Facts, pause: string, other: unknown, lease: LeaseRef) => unknown;

const kindOf = (outcomes: unknown): string => (outcomes as Kind[])[0]?.kind ?? '';

/** A pause and a resume against everything else that happens to the run at the same moment: one of the two was first, and nothing is lost. */
describe('a pause races', () => {
  let store: TestStore;
  let workerId: string;
  const random = new Seeded(26);
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  // No test gets a run of another one.
  afterEach(async () => {
    await store.database.sql`truncate perdure.workflow_runs, perdure.step_runs, perdure.run_pauses, perdure.signals,
      perdure.run_updates, perdure.child_ends`;
  });

  const pause = async ({ namespace, runId }: LeaseRef) =>
    kindOf(await pauseRuns(store.db, [{ namespace, runId, by: 'a', reason: '' }]));
  const resume = async ({ namespace, runId }: LeaseRef) =>
    kindOf(await resumeRuns(store.db, [{ namespace, runId, by: 'b' }]));
  const pauseAll = (runs: readonly LeaseRef[]) =>
    pauseRuns(
      store.db,
      runs.map(({ namespace, runId }) => ({ namespace, runId, by: 'a', reason: '' })),
    );
  const leases = async (): Promise<LeaseRef[]> => {
    await store.start(PAIRS);
    const all = await store.claim(workerId, PAIRS);
    expect(all).toHaveLength(PAIRS);
    return all;
  };
  const pending = async (): Promise<LeaseRef[]> =>
    (await store.start(PAIRS)).map((runId) => ({ namespace: 'default', runId, leaseToken: 0 }));
  const begun = async (): Promise<LeaseRef[]> => {
    const all = await leases();
    await beginSteps(
      store.db,
      all.map((lease) => beginCommand(lease)),
    );
    return all;
  };
  const go = (lease: LeaseRef): AwaitStep => ({
    ...lease,
    stepId: 'go',
    seq: 1,
    stepKind: 'SIGNAL',
    attemptNumber: 1,
    awaits: 'go',
    timeoutMs: null,
    eventSeq: 1,
    uncancellable: false,
  });
  const waiting = async (): Promise<LeaseRef[]> => {
    const all = await leases();
    await awaitSteps(store.db, all.map(go));
    return all;
  };
  const child = (lease: LeaseRef, childRunId: string) =>
    ({
      ...lease,
      stepId: 'go',
      seq: 1,
      attemptNumber: 1,
      eventSeq: 1,
      uncancellable: false,
      childRunId,
      workflowId: null,
      workflowType: 'w',
      taskQueue: 'children',
      priority: null,
      build: null,
      reusePolicy: 'ALLOW',
      parentClose: 'CANCEL',
      startDelayMs: 0,
      runTimeoutMs: 0,
      executionTimeoutMs: 0,
      maxLostLeases: 10,
      input: null,
    }) as const;
  const record = (lease: LeaseRef) =>
    recordSteps(store.db, [{ ...beginCommand(lease), uncancellable: false, output: null, eventSeq: 1 }]);
  const claim: Rival = async () =>
    claimRuns(
      store.db,
      { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }, { workerId }] },
      { memoPageBytes: 1e6, memoPageEntries: 100 },
    );
  const factsOf = async (runId: string): Promise<Facts> => {
    const [facts] = await store.database.sql<Facts[]>`
      select r.status, r.paused_at is not null as paused, r.lease_token, r.cancel_requested_at is not null as cancel_requested,
        r.has_arrivals,
        (select s.status from perdure.step_runs s where s.run_id = r.run_id and s.step_id = 's' and s.is_latest) as s,
        (select s.status from perdure.step_runs s where s.run_id = r.run_id and s.step_id = 'go' and s.is_latest) as go,
        (select count(*)::int from perdure.run_pauses p where p.run_id = r.run_id) as pauses,
        (select count(*)::int from perdure.run_pauses p where p.run_id = r.run_id and p.resumed_at is null) as open_pauses
      from perdure.workflow_runs r where r.run_id = ${runId}`;
    return facts as Facts;
  };

  /** Pauses each run beside the rival, in a random order, and checks what came of each pair. */
  async function race(runs: readonly LeaseRef[], rival: Rival, check: Check, act = pause): Promise<Set<string>> {
    const outcomes = new Set<string>();
    const left = [...runs];
    const lane = async () => {
      for (let lease = left.pop(); lease !== undefined; lease = left.pop()) {
        const of = lease;
        const both: [() => Promise<unknown>, () => Promise<unknown>] = [() => act(of), () => rival(of)];
        const pauseFirst = random.chance(0.5);
        const [first, second] = pauseFirst ? both : [both[1], both[0]];
        const answers = await Promise.all([first(), second()]);
        const [paused, other] = pauseFirst ? answers : [answers[1], answers[0]];
        const facts = await factsOf(lease.runId);
        outcomes.add(String(check(facts, paused as string, other, lease)));
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    return outcomes;
  }

  it.each([
    ['the beginning of a step', (lease: LeaseRef) => beginSteps(store.db, [beginCommand(lease)]), 'begun', 's'],
    ['a step that ends at once', record, 'recorded', 's'],
    [
      'the beginning of a sleep',
      (lease: LeaseRef) =>
        scheduleSleeps(store.db, [
          { ...lease, stepId: 's', seq: 1, durationMs: 1, until: null, uncancellable: false, attemptNumber: 1 },
        ]),
      'scheduled',
      's',
    ],
    ['the beginning of a wait', (lease: LeaseRef) => awaitSteps(store.db, [go(lease)]), 'waiting', 'go'],
    ['the start of a child', (lease: LeaseRef) => startChildren(store.db, [child(lease, uuid())]), 'started', 'go'],
  ] as const)('%s: it was before the pause, or is refused and leaves nothing', async (_, begin, done, step) => {
    const outcomes = await race(await leases(), begin, (facts, paused, begins) => {
      expect(paused).toBe('paused');
      expect(['paused', done]).toContain(kindOf(begins));
      expect(facts).toMatchObject({ status: 'RUNNING', paused: true, open_pauses: 1 });
      if (kindOf(begins) === done) expect(facts[step]).not.toBeNull();
      else expect(facts[step]).toBeNull();
      return kindOf(begins);
    });
    expect([...outcomes].sort()).toEqual([done, 'paused'].sort());
  });

  it.each([
    [
      'the completion of a step under way',
      (lease: LeaseRef) =>
        completeSteps(store.db, [{ ...lease, stepId: 's', attemptNumber: 1, output: null, eventSeq: 1 }]),
      'completed',
      { status: 'RUNNING', s: 'COMPLETED' },
    ],
    [
      'the failure of a step under way, with a retry',
      (lease: LeaseRef) =>
        failSteps(store.db, [
          { ...lease, stepId: 's', attemptNumber: 1, failure: FAILURE, retryAfterMs: 1, eventSeq: 0 },
        ]),
      'failed',
      { status: 'RUNNING', s: 'FAILED' },
    ],
    ['a renewal of the lease', (lease: LeaseRef) => renewLeases(store.db, [lease]), 'renewed', { status: 'RUNNING' }],
    [
      'the end of the attempt of the run, with a retry',
      (lease: LeaseRef) => retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 1_000, cut: null }]),
      'retrying',
      { status: 'SLEEPING' },
    ],
    [
      'the release by the worker',
      (lease: LeaseRef) => releaseRuns(store.db, [{ ...lease, delayMs: 0, reason: '' }]),
      'released',
      { status: 'PENDING' },
    ],
    [
      'the worker that cannot continue the run',
      (lease: LeaseRef) => holdRuns(store.db, [{ ...lease, failure: FAILURE }]),
      'held',
      { status: 'PENDING', s: 'FAILED' },
    ],
  ] as const)('%s: both happen, in either order, and there is one pause', async (_, rival, done, after) => {
    await race(await begun(), rival, (facts, paused, other) => {
      expect(paused).toMatch(done === 'held' ? /^(already_)?paused$/ : /^paused$/);
      expect(kindOf(other)).toBe(done);
      expect(facts).toMatchObject({ paused: true, pauses: 1, open_pauses: 1, ...after });
    });
  });

  it('the end of the run with its last step: it ends, or the step is refused and the run stays', async () => {
    const endWithStep = (lease: LeaseRef) =>
      endRunsWithStep(store.db, [
        {
          step: { ...beginCommand(lease), uncancellable: false, output: null, eventSeq: 1 },
          end: { ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false },
        },
      ]);
    const outcomes = await race(await leases(), endWithStep, (facts, paused, ended) => {
      if (paused === 'paused') {
        expect(kindOf(ended)).toBe('paused');
        expect(facts).toMatchObject({ status: 'RUNNING', paused: true, s: null, pauses: 1 });
      } else {
        expect(kindOf(ended)).toBe('ended');
        expect(facts).toMatchObject({ status: 'COMPLETED', paused: false, s: 'COMPLETED', pauses: 0 });
      }
      return paused;
    });
    expect([...outcomes].sort()).toEqual(['paused', 'run_closed']);
  });

  it('the confirmation of a cancel: it ends, and the pause was before or is refused', async () => {
    const runs = await leases();
    await cancelRuns(
      store.db,
      runs.map((lease) => ({ ...lease, reason: '' })),
    );
    const confirm = async (lease: LeaseRef) => {
      await observeCancels(store.db, [{ ...lease, eventSeq: 1 }]);
      return endRuns(store.db, [{ ...lease, end: 'CANCELLED' }]);
    };
    await race(runs, confirm, (facts, paused, ended) => {
      expect(kindOf(ended)).toBe('ended');
      expect(facts.status).toBe('CANCELLED');
      expect(['paused', 'run_closed']).toContain(paused);
    });
  });

  it('the suspension: it is suspended and paused', async () => {
    await race(
      await waiting(),
      (lease) => suspendRuns(store.db, [{ ...lease, waits: [], arrivalsAwaited: 1, isKept: false }]),
      (facts, paused, other) => {
        expect(paused).toBe('paused');
        expect(kindOf(other)).toBe('suspended');
        expect(facts).toMatchObject({ status: 'WAITING', paused: true });
      },
    );
  });

  it('the taking of arrivals: both happen', async () => {
    const runs = await waiting();
    await sendSignals(
      store.db,
      runs.map(({ namespace, runId }) => ({
        namespace,
        runId,
        name: 'go',
        payload: null,
        requestId: null,
        sender: '',
        maxUnconsumed: 10,
      })),
    );
    await race(
      runs,
      (lease) => takeArrivals(store.db, [{ ...lease, eventSeq: 1, dueStepIds: [] }]),
      (facts, paused, taken) => {
        expect(paused).toBe('paused');
        expect(taken).toMatchObject([{ kind: 'taken', arrivals: [{ stepId: 'go' }] }]);
        expect(facts).toMatchObject({ status: 'RUNNING', paused: true, has_arrivals: false });
      },
    );
  });

  it('the claim: the run is leased when the pause is answered, or never', async () => {
    const outcomes = await race(
      await pending(),
      claim,
      (facts, paused, _, lease) => {
        expect(paused).toMatch(/^paused (PAUSED|RUNNING)$/);
        expect(facts.paused).toBe(true);
        // A claim takes any run: only what the pause has answered counts.
        expect(facts.status).toBe(paused === 'paused RUNNING' ? 'RUNNING' : 'PENDING');
        expect(facts.lease_token).toBe(paused === 'paused RUNNING' ? 1 : 0);
        expect(lease.leaseToken).toBe(0);
        return paused;
      },
      async ({ namespace, runId }) => {
        const [outcome] = await pauseRuns(store.db, [{ namespace, runId, by: '', reason: '' }]);
        return outcome?.kind === 'paused' ? `paused ${outcome.status}` : String(outcome?.kind);
      },
    );
    expect([...outcomes].sort()).toEqual(['paused PAUSED', 'paused RUNNING']);
  });

  it('the end of the timeout of a step under way: it is taken from its worker, and not claimed', async () => {
    const runs = await begun();
    await store.database.sql`update perdure.step_runs set deadline_at = now() - interval '1 h'`;
    await race(
      runs,
      () => expireSteps(store.db, { limit: 3 }),
      (facts, paused) => {
        expect(paused).toBe('paused');
        expect(`${facts.status} ${facts.s}`).toMatch(/^(RUNNING RUNNING|PENDING FAILED)$/);
      },
    );
    await expireSteps(store.db, { limit: PAIRS });
    for (const { runId } of runs) {
      expect(await factsOf(runId)).toMatchObject({ status: 'PENDING', s: 'FAILED', paused: true, open_pauses: 1 });
    }
    expect(await store.claim(workerId, PAIRS)).toEqual([]);
  });

  it.each([
    ['the beginning of a step', (lease: LeaseRef) => beginSteps(store.db, [beginCommand(lease)]), /^(begun|paused)$/],
    [
      'the release by the worker',
      (lease: LeaseRef) => releaseRuns(store.db, [{ ...lease, delayMs: 0, reason: '' }]),
      /^released$/,
    ],
  ] as const)(
    'a resume of a leased run against %s: the run is not paused, and both are answered',
    async (_, rival, kinds) => {
      const runs = await leases();
      await pauseAll(runs);
      await race(
        runs,
        rival,
        (facts, resumed, other) => {
          expect(resumed).toBe('resumed');
          expect(kindOf(other)).toMatch(kinds);
          expect(facts).toMatchObject({ paused: false, open_pauses: 0 });
          if (kindOf(other) === 'released') expect(facts.status).toBe('PENDING');
        },
        resume,
      );
    },
  );

  it('a resume against a claim: the run is claimable afterwards, or claimed', async () => {
    const runs = await pending();
    await pauseAll(runs);
    await race(
      runs,
      claim,
      (facts, resumed) => {
        expect(resumed).toBe('resumed');
        expect(facts.status).toMatch(/^(PENDING|RUNNING)$/);
      },
      resume,
    );
    const [{ running } = { running: 0 }] = await store.database.sql<{ running: number }[]>`
      select count(*)::int as running from perdure.workflow_runs where status = 'RUNNING'`;
    expect(await store.claim(workerId, PAIRS)).toHaveLength(PAIRS - running);
  });
});
