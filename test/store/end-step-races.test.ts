import {
  cancelRuns,
  completeSteps,
  type EndStepOutcome,
  endSteps,
  failSteps,
  type LeaseRef,
  settleSteps,
  suspendRuns,
  takeArrivals,
  terminateRuns,
} from '@perdure/store';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 100);
/** Pairs under way at once: more than the connections, so that statements wait for each other. */
const AT_ONCE = 25;
const namespace = 'default';

interface StepRow {
  readonly attempt_number: number;
  readonly status: string;
  readonly is_arrived: boolean;
  readonly event_seq: number | null;
  readonly by_hand: boolean;
}

/** A step is ended by hand while something else happens to it: one of the two was first, and the other has found that. */
describe('the end of a step by hand races', () => {
  let store: TestStore;
  let workerId: string;
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
      open.map((row) => ({ namespace, runId: row.run_id, reason: '' })),
    );
  });

  /** Runs whose step is at work, or waits for its next attempt. */
  const begun = async (isRetried = false): Promise<LeaseRef[]> => {
    await store.start(PAIRS);
    const leases = await store.claim(workerId, PAIRS);
    expect(leases).toHaveLength(PAIRS);
    await Promise.all(leases.map((lease) => store.begin(lease)));
    if (isRetried)
      await failSteps(
        store.db,
        leases.map((lease) => ({ ...attempt(lease), failure: FAILURE, retryAfterMs: 3_600_000, eventSeq: 0 })),
      );
    return leases;
  };
  const attempt = (lease: LeaseRef) => ({ ...lease, stepId: 's', attemptNumber: 1 });
  const end = async ({ runId }: LeaseRef): Promise<EndStepOutcome> => {
    const action = { namespace, runId, stepId: 's', actor: 'a', reason: '', requestId: null };
    const [outcome] = await endSteps(store.db, [{ ...action, outcome: { kind: 'SKIPPED' } }]);
    return outcome as EndStepOutcome;
  };
  const stepOf = async (runId: string): Promise<StepRow> => {
    const [row] = await store.database.sql<StepRow[]>`
      select attempt_number, status, is_arrived, event_seq, action_seq is not null as by_hand
      from perdure.step_runs where run_id = ${runId} and step_id = 's' and attempt_key = 0`;
    return row as StepRow;
  };
  const kindOf = async (outcomes: Promise<readonly { readonly kind: string }[]>) => (await outcomes)[0]?.kind ?? '';
  /** Both at once, for every run; either may be sent first. */
  const race = async (
    runs: readonly LeaseRef[],
    other: (run: LeaseRef) => Promise<string>,
    judge: (run: LeaseRef, ended: EndStepOutcome, other: string) => Promise<void>,
  ) => {
    for (let next = 0; next < runs.length; next += AT_ONCE) {
      await Promise.all(
        runs.slice(next, next + AT_ONCE).map(async (run, index) => {
          const [ended, beside] =
            index % 2 === 0
              ? await Promise.all([end(run), other(run)])
              : await Promise.all([other(run), end(run)]).then(([b, a]) => [a, b] as const);
          await judge(run, ended, beside);
        }),
      );
    }
  };

  it("the worker's completion of it", async () => {
    await race(
      await begun(),
      (run) => kindOf(completeSteps(store.db, [{ ...attempt(run), output: null, eventSeq: 2 }])),
      async ({ runId }, ended, completed) => {
        const isByHand = ended.kind === 'ended';
        expect([ended.kind, completed]).toEqual(isByHand ? ['ended', 'ended_by_hand'] : ['step_ended', 'completed']);
        expect(await stepOf(runId)).toMatchObject(
          isByHand
            ? { status: 'SKIPPED', is_arrived: true, event_seq: null, by_hand: true }
            : { status: 'COMPLETED', is_arrived: false, event_seq: 2, by_hand: false },
        );
      },
    );
  });

  it("the worker's failure of it that is retried: the outcome is that of the attempt, or of one after it", async () => {
    await race(
      await begun(),
      (run) => kindOf(failSteps(store.db, [{ ...attempt(run), failure: FAILURE, retryAfterMs: 1, eventSeq: 0 }])),
      async ({ runId }, ended, failed) => {
        expect(ended.kind).toBe('ended');
        const attempt_number = failed === 'failed' ? 2 : 1;
        expect(await stepOf(runId)).toMatchObject({ status: 'SKIPPED', attempt_number, is_arrived: true });
      },
    );
  });

  it('the cancel request, which its worker settles', async () => {
    await race(
      await begun(true),
      async (run) => {
        await cancelRuns(store.db, [{ namespace, runId: run.runId, reason: '' }]);
        const settle = { ...attempt(run), seq: 1, stepKind: 'FUNCTION' as const, eventSeq: 2 };
        return kindOf(settleSteps(store.db, [{ ...settle, status: 'CANCELLED' }]));
      },
      async ({ runId }, ended, settled) => {
        expect([ended.kind, settled]).toEqual(
          ended.kind === 'ended' ? ['ended', 'arrived'] : ['step_ended', 'settled'],
        );
        expect((await stepOf(runId)).status).toBe(ended.kind === 'ended' ? 'SKIPPED' : 'CANCELLED');
      },
    );
  });

  it('a suspension that waits for its retry: the run is woken, or not suspended', async () => {
    await race(
      await begun(true),
      (run) => {
        const waits = [{ stepId: 's', on: 'RETRY' as const }];
        return kindOf(suspendRuns(store.db, [{ ...run, waits, arrivalsAwaited: 0, isKept: false }]));
      },
      async ({ runId }, ended, suspended) => {
        expect(ended.kind).toBe('ended');
        const { status, has_arrivals } = await store.run(runId);
        expect(has_arrivals).toBe(true);
        expect([suspended, status]).toEqual(
          suspended === 'suspended' ? ['suspended', 'PENDING'] : ['not_suspended', 'RUNNING'],
        );
      },
    );
  });

  it('what takes it: it is taken once', async () => {
    await race(
      await begun(),
      async (run) => {
        const [taken] = await takeArrivals(store.db, [{ ...run, eventSeq: 5, dueStepIds: [] }]);
        return taken?.kind === 'taken' ? String(taken.arrivals.length) : '';
      },
      async (run, ended, count) => {
        expect(ended.kind).toBe('ended');
        const [again] = await takeArrivals(store.db, [{ ...run, eventSeq: 6, dueStepIds: [] }]);
        expect(again).toMatchObject({ kind: 'taken' });
        if (again?.kind === 'taken') expect(again.arrivals.length + Number(count)).toBe(1);
      },
    );
  });
});
