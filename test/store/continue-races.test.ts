import {
  type ContinueRunOutcome,
  cancelRuns,
  continueRuns,
  endRuns,
  type LeaseRef,
  pauseRuns,
  sendSignals,
  sendUpdates,
  startRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openTestStore, startCommand, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 300);
/** Pairs under way at once: more than the connections, so that statements wait for each other. */
const AT_ONCE = 25;
const namespace = 'default';

/** A run that continues as another one, against everything else that happens to it: one of the two was first, and nothing is lost. */
describe('continuing as a new run races', () => {
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

  const continueAll = (leases: readonly LeaseRef[]) =>
    continueRuns(
      store.db,
      leases.map((lease) => ({
        ...lease,
        input: null,
        taskQueue: null,
        priority: null,
        startDelayMs: 0,
        runTimeoutMs: null,
        executionTimeoutMs: null,
        hasOpenSteps: true,
      })),
    );
  /** Both at once, for every run; either may be sent first. */
  const race = async <Other>(
    other: (lease: LeaseRef) => Promise<Other>,
    judge: (lease: LeaseRef, continued: ContinueRunOutcome, other: Other) => Promise<void>,
  ) => {
    await store.start(PAIRS);
    const leases = await store.claim(workerId, PAIRS);
    expect(leases).toHaveLength(PAIRS);
    for (let next = 0; next < leases.length; next += AT_ONCE) {
      await Promise.all(
        leases.slice(next, next + AT_ONCE).map(async (lease, index) => {
          const move = async () => (await continueAll([lease]))[0] as ContinueRunOutcome;
          let continued: Promise<ContinueRunOutcome> | undefined;
          if (index % 2 === 0) continued = move();
          const beside = other(lease);
          continued ??= move();
          await judge(lease, await continued, await beside);
        }),
      );
    }
  };
  const open = async (workflowId: string) =>
    store.database.sql<{ run_id: string; status: string; cancelled: boolean }[]>`
      select run_id, status, cancel_requested_at is not null as cancelled from perdure.workflow_runs
      where workflow_id = ${workflowId} and finished_at is null`;
  const statusOf = async (runId: string) => (await store.run(runId)).status;

  it('a repeat: there is one successor', async () => {
    await race(
      async (lease) => (await continueAll([lease]))[0] as ContinueRunOutcome,
      async ({ runId }, one, other) => {
        expect([one.kind, other.kind].sort()).toEqual(['already_continued', 'continued']);
        expect((one as { nextRunId: string }).nextRunId).toBe((other as { nextRunId: string }).nextRunId);
        expect(await open(runId)).toHaveLength(1);
      },
    );
  });

  it('a cancel request: the successor has it', async () => {
    await race(
      async ({ runId }) => (await cancelRuns(store.db, [{ namespace, runId, reason: '' }]))[0],
      async ({ runId }, continued, cancelled) => {
        expect(continued.kind).toBe('continued');
        const [successor] = await open(runId);
        if (cancelled?.kind === 'requested') expect(successor?.cancelled).toBe(true);
        else {
          expect(cancelled).toMatchObject({ kind: 'wrong_state', status: 'CONTINUED' });
          expect(successor?.cancelled).toBe(false);
        }
      },
    );
  });

  it('a pause: the successor is paused, or the pause is refused because the run has continued', async () => {
    await race(
      async ({ runId }) => (await pauseRuns(store.db, [{ namespace, runId, reason: 'why', by: 'alice' }]))[0],
      async ({ runId }, continued, paused) => {
        expect(continued.kind).toBe('continued');
        const pauses = await store.database.sql<{ paused_by: string }[]>`
          select p.paused_by from perdure.workflow_runs r join perdure.run_pauses p on p.run_id = r.run_id
          where r.workflow_id = ${runId} and r.finished_at is null and r.paused_at = p.paused_at and p.resumed_at is null`;
        if (paused?.kind === 'paused') expect(pauses).toMatchObject([{ paused_by: 'alice' }]);
        else {
          expect(paused).toEqual({ kind: 'run_closed', status: 'CONTINUED' });
          expect(pauses).toEqual([]);
        }
      },
    );
  });

  it('a termination: it is refused, or there is no successor', async () => {
    await race(
      async ({ runId }) => (await terminateRuns(store.db, [{ namespace, runId, reason: '' }]))[0],
      async ({ runId }, continued, terminated) => {
        const expected =
          terminated?.kind === 'terminated' ? ['lease_lost', 'TERMINATED', 0] : ['continued', 'CONTINUED', 1];
        expect([continued.kind, await statusOf(runId), (await open(runId)).length]).toEqual(expected);
      },
    );
  });

  it('the end by the same worker: one of them counts', async () => {
    await race(
      async (lease) =>
        (await endRuns(store.db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]))[0],
      async ({ runId }, continued, ended) => {
        expect([
          ['continued', 'lease_lost', 'CONTINUED'],
          ['lease_lost', 'ended', 'COMPLETED'],
        ]).toContainEqual([continued.kind, ended?.kind, await statusOf(runId)]);
      },
    );
  });

  it('a signal and an update: they are with the successor, or refused because the run has continued', async () => {
    await race(
      async ({ runId }) => {
        const signal = { namespace, runId, name: 'go', payload: null, requestId: null, sender: '', maxUnconsumed: 10 };
        const update = { namespace, runId, name: 'u', payload: null, requestId: uuid(), sender: '', maxUnanswered: 10 };
        const answers = await Promise.all([sendSignals(store.db, [signal]), sendUpdates(store.db, [update])]);
        return answers.map(([outcome]) => outcome);
      },
      async (_, continued, [sent, updated]) => {
        const successor = (continued as { nextRunId: string }).nextRunId;
        const [kept] = await store.database.sql`
          select (select count(*)::int from perdure.signals where run_id = ${successor}) as signals,
            (select count(*)::int from perdure.run_updates where run_id = ${successor}) as updates`;
        for (const outcome of [sent, updated]) {
          if (outcome?.kind !== 'sent') expect(outcome).toEqual({ kind: 'run_closed', status: 'CONTINUED' });
        }
        expect(kept).toEqual({ signals: sent?.kind === 'sent' ? 1 : 0, updates: updated?.kind === 'sent' ? 1 : 0 });
      },
    );
  });

  it.each(['ALLOW', 'REJECT', 'TERMINATE_EXISTING'] as const)(
    'a start of the same workflow id (%s): one run is open',
    async (reusePolicy) => {
      await race(
        async ({ runId }) =>
          (await startRuns(store.db, [startCommand({ workflowId: runId, reusePolicy, taskQueue: 'other' })]))[0],
        async ({ runId }, continued, started) => {
          const [left, ...others] = await open(runId);
          expect(others).toEqual([]);
          if (started?.kind === 'started') {
            expect(reusePolicy).toBe('TERMINATE_EXISTING');
            expect(left?.run_id).toBe(started.runId);
          } else {
            expect(reusePolicy).not.toBe('TERMINATE_EXISTING');
            expect([continued.kind, started?.kind]).toEqual(['continued', 'already_exists']);
            expect(left?.run_id).toBe((continued as { nextRunId: string }).nextRunId);
          }
        },
      );
    },
  );

  it('the loss of the lease: the run is claimed by another worker, or continued', async () => {
    await race(
      async ({ runId }) => {
        await store.database.sql`
          update perdure.workflow_runs set status = 'PENDING', available_at = now(), leased_by = null, lease_expires_at = null,
            yield_reason = 'RECLAIM', task_queue = 'elsewhere' where run_id = ${runId} and status = 'RUNNING'`;
      },
      async ({ runId }, continued) => {
        expect([
          ['continued', 'CONTINUED'],
          ['lease_lost', 'PENDING'],
        ]).toContainEqual([continued.kind, await statusOf(runId)]);
        expect(await open(runId)).toHaveLength(1);
      },
    );
  });

  it('batches that meet the same runs in different order do not deadlock', async () => {
    await store.start(40);
    const leases = await store.claim(workerId, 40);
    const outcomes = await Promise.all(
      Array.from({ length: 12 }, (_, n) => {
        const order = n % 2 === 0 ? leases : [...leases].reverse();
        return n % 3 === 0
          ? cancelRuns(
              store.db,
              order.map(({ runId }) => ({ namespace, runId, reason: '' })),
            )
          : continueAll(order);
      }) as Promise<readonly { kind: string }[]>[],
    );
    expect(outcomes.flat().filter(({ kind }) => kind === 'continued')).toHaveLength(40);
  });
});
