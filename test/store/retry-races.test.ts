import {
  deleteRuns,
  endRuns,
  type LeaseRef,
  type RetryRunOutcome,
  retryRuns,
  startRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, startCommand, type TestStore } from '../support/store.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 300);
/** Pairs under way at once: more than the connections, so that statements wait for each other. */
const AT_ONCE = 25;
const namespace = 'default';

/** A retry against everything else that happens to the run or its workflow id at the same moment: one of the two was first. */
describe('a retry races', () => {
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

  const failed = async (): Promise<LeaseRef[]> => {
    await store.start(PAIRS);
    const leases = await store.claim(workerId, PAIRS);
    expect(leases).toHaveLength(PAIRS);
    await endRuns(
      store.db,
      leases.map((lease) => ({ ...lease, end: 'FAILED', failure: FAILURE })),
    );
    return leases;
  };
  const retry = async ({ runId }: LeaseRef): Promise<RetryRunOutcome> => {
    const [outcome] = await retryRuns(store.db, [{ namespace, runId, actor: 'a', reason: '', requestId: null }]);
    return outcome as RetryRunOutcome;
  };
  /** Both at once, for every run; either may be sent first. */
  const race = async <Other>(
    runs: readonly LeaseRef[],
    other: (run: LeaseRef) => Promise<Other>,
    judge: (run: LeaseRef, retried: RetryRunOutcome, other: Other) => Promise<void> | void,
  ) => {
    for (let next = 0; next < runs.length; next += AT_ONCE) {
      await Promise.all(
        runs.slice(next, next + AT_ONCE).map(async (run, index) => {
          const calls = [() => retry(run), () => other(run)] as const;
          const [retried, beside] =
            index % 2 === 0
              ? await Promise.all([calls[0](), calls[1]()])
              : await Promise.all([calls[1](), calls[0]()]).then(([b, a]) => [a, b] as const);
          await judge(run, retried, beside);
        }),
      );
    }
  };
  const statusOf = async (runId: string) => (await store.run(runId)).status;

  it('one with the same request id: both are answered as one', async () => {
    const requestId = uuid();
    const same = async ({ runId }: LeaseRef) =>
      (await retryRuns(store.db, [{ namespace, runId, actor: 'a', reason: '', requestId }]))[0] as RetryRunOutcome;
    const runs = await failed();
    for (const run of runs) {
      const kinds = (await Promise.all([same(run), same(run)])).map(({ kind }) => kind).sort();
      expect(kinds).toEqual(['already_retried', 'retried']);
    }
  });

  it.each(['ALLOW', 'ALLOW_IF_FAILED', 'TERMINATE_EXISTING', 'REJECT'] as const)(
    'a start of the same workflow id (%s): never are both runs open',
    async (reusePolicy) => {
      await race(
        await failed(),
        async ({ runId }) =>
          (
            await startRuns(store.db, [
              startCommand({ workflowId: runId, reusePolicy, priority: 1, taskQueue: 'other' }),
            ])
          )[0],
        async ({ runId }, retried, started) => {
          const open = await store.database.sql<{ run_id: string }[]>`
            select run_id from perdure.workflow_runs where workflow_id = ${runId} and finished_at is null`;
          expect(open).toHaveLength(1);
          if (started?.kind === 'started') {
            expect(open[0]?.run_id).toBe(started.runId);
            if (retried.kind === 'workflow_id_taken') expect(retried.runId).toBe(started.runId);
            else {
              expect([retried.kind, reusePolicy]).toEqual(['retried', 'TERMINATE_EXISTING']);
              expect(await statusOf(runId)).toBe('TERMINATED');
            }
          } else {
            expect([started?.kind, retried.kind]).toEqual(['already_exists', 'retried']);
            expect(reusePolicy).not.toBe('TERMINATE_EXISTING');
            expect(open[0]?.run_id).toBe(runId);
          }
        },
      );
    },
  );

  it('a deletion: the run is gone, or open and kept', async () => {
    await race(
      await failed(),
      async ({ runId }) => (await deleteRuns(store.db, [{ namespace, runId }]))[0]?.kind,
      async ({ runId }, retried, deleted) => {
        expect([
          ['run_not_found', 'deleted'],
          ['retried', 'wrong_state'],
        ]).toContainEqual([retried.kind, deleted]);
        const [left] = await store.database.sql`
          select (select count(*)::int from perdure.workflow_runs where run_id = ${runId}) as runs,
            (select count(*)::int from perdure.run_actions where run_id = ${runId}) as actions`;
        expect(left).toEqual(deleted === 'deleted' ? { runs: 0, actions: 0 } : { runs: 1, actions: 1 });
      },
    );
  });
});
