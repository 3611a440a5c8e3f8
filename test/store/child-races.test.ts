/** The end of a child against what may happen to its parent at the same time, over connections of their own. */
import {
  cancelRuns,
  closeChildren,
  type Database,
  endRuns,
  type LeaseRef,
  openDatabase,
  startChildren,
  startIdentity,
  suspendRuns,
  takeArrivals,
  tellParents,
  terminateRuns,
  unclosedParents,
  untoldChildren,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';

const PAIRS = 40;

describe('races of children and parents', () => {
  let store: TestStore;
  let other: Database;
  let workerId: string;
  /** Deadlocks that PostgreSQL has resolved: none may reach anybody, and there should be none to resolve. */
  const deadlocks = async () => {
    const [row] = await store.database.sql<{ deadlocks: number }[]>`
      select deadlocks::int from pg_stat_database where datname = current_database()`;
    return row?.deadlocks;
  };
  beforeAll(async () => {
    store = await openTestStore();
    other = openDatabase({ url: store.database.url, maxConnections: 10 });
    workerId = await store.register();
  });
  afterAll(async () => {
    await other.close();
    await store.stop();
  });

  interface Family {
    readonly parent: LeaseRef;
    readonly children: readonly LeaseRef[];
  }
  const families = async (count: number, size: number): Promise<Family[]> => {
    const ids = new Set(await store.start(count));
    // Parents that earlier races have woken are claimed as well, and left alone.
    const parents = (await store.claim(workerId, 1_000)).filter(({ runId }) => ids.has(runId));
    await startChildren(
      store.db,
      parents.flatMap((parent) =>
        Array.from({ length: size }, (_, index) => ({
          ...parent,
          stepId: `c${index}`,
          seq: index + 1,
          attemptNumber: 1,
          eventSeq: index + 1,
          uncancellable: false,
          childRunId: startIdentity('default', '').runId,
          workflowId: null,
          workflowType: 'w',
          taskQueue: null,
          priority: null,
          build: null,
          reusePolicy: 'ALLOW' as const,
          parentClose: 'CANCEL' as const,
          startDelayMs: 0,
          runTimeoutMs: 0,
          executionTimeoutMs: 0,
          maxLostLeases: 10,
          input: null,
        })),
      ),
    );
    const leases = await store.claim(workerId, count * size);
    expect(leases).toHaveLength(count * size);
    const rows = await store.database.sql<{ run_id: string; parent_run_id: string }[]>`
      select run_id, parent_run_id from perdure.workflow_runs where run_id in ${store.database.sql(leases.map(({ runId }) => runId))}`;
    const parentOf = new Map(rows.map((row) => [row.run_id, row.parent_run_id]));
    return parents.map((parent) => ({
      parent,
      children: leases.filter(({ runId }) => parentOf.get(runId) === parent.runId),
    }));
  };
  const endChild = async ({ children }: Family) => {
    await endRuns(
      other,
      children.map((lease) => ({ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false })),
    );
    await tellParents(
      other,
      children.map(({ runId }) => runId),
    );
  };
  const stateOf = async ({ parent }: Family) => {
    const run = await store.run(parent.runId);
    const [open] = await store.database.sql<{ open: number }[]>`
      select count(*)::int as open from perdure.step_runs where run_id = ${parent.runId} and status = 'RUNNING'`;
    return { status: run.status as string, hasArrivals: run.has_arrivals as boolean, openSteps: open?.open };
  };
  const race = async (
    act: (family: Family) => Promise<unknown>,
    check: (family: Family) => Promise<void>,
    size = 1,
  ) => {
    const all = await families(PAIRS, size);
    await Promise.all(
      all.flatMap((family, index) => {
        // Either may be the first to be sent.
        const both = [() => endChild(family), () => act(family)];
        return (index % 2 === 0 ? both : both.reverse()).map((go) => go());
      }),
    );
    for (const family of all) await check(family);
    expect(await untoldChildren(store.db, { limit: 1_000, minAgeMs: 0 })).toEqual([]);
  };

  it('suspend: the parent is woken, or keeps its lease with something to take', () =>
    race(
      ({ parent }) => suspendRuns(store.db, [{ ...parent, waits: [], arrivalsAwaited: 1, isKept: false }]),
      async (family) => {
        const state = await stateOf(family);
        expect(state).toMatchObject({ hasArrivals: true, openSteps: 0 });
        expect(['PENDING', 'RUNNING']).toContain(state.status);
      },
    ));

  it('suspend for several: the parent wakes when all have ended, however the ends are spread', () =>
    race(
      ({ parent }) =>
        suspendRuns(store.db, [{ ...parent, waits: [], arrivalsAwaited: 1, childrenAwaited: 3, isKept: false }]),
      async (family) => {
        const state = await stateOf(family);
        expect(state).toMatchObject({ hasArrivals: true, openSteps: 0 });
        expect(['PENDING', 'RUNNING']).toContain(state.status);
      },
      3,
    ));

  it('cancel: the request is recorded, and what has ended is there to take', () =>
    race(
      ({ parent }) => cancelRuns(store.db, [{ namespace: 'default', runId: parent.runId, reason: '' }]),
      async (family) => {
        expect(await stateOf(family)).toEqual({ status: 'RUNNING', hasArrivals: true, openSteps: 0 });
        const [outcome] = await takeArrivals(store.db, [{ ...family.parent, eventSeq: 1, dueStepIds: [] }]);
        expect(outcome).toMatchObject({ kind: 'taken', arrivals: [{ stepId: 'c0' }] });
      },
    ));

  it('terminate: the parent is TERMINATED, and its child COMPLETED or being cancelled', () =>
    race(
      async ({ parent }) => {
        await terminateRuns(store.db, [{ namespace: 'default', runId: parent.runId, reason: '' }]);
        await closeChildren(store.db, [parent.runId]);
      },
      async (family) => {
        expect(await stateOf(family)).toMatchObject({ status: 'TERMINATED', openSteps: 0 });
        expect(await store.run(family.children[0]?.runId ?? '')).toMatchObject({ status: 'COMPLETED' });
      },
    ));

  it('end: the parent has ended, with no step open', () =>
    race(
      async ({ parent }) => {
        await endRuns(store.db, [{ ...parent, end: 'FAILED', failure: FAILURE }]);
        await closeChildren(store.db, [parent.runId]);
      },
      async (family) => expect(await stateOf(family)).toMatchObject({ status: 'FAILED', openSteps: 0 }),
    ));

  it('many servers tell, close, end and start over a tree at once: nobody waits for an ended child, nothing is in a deadlock', async () => {
    const all = await families(10, 20);
    const connections = [store.db, other];
    await Promise.all(
      all.flatMap(({ parent, children }, n) => {
        const db = connections[n % 2] as Database;
        const ids = children.map(({ runId }) => runId);
        return [
          ...children.map(async (lease, index) => {
            const on = connections[index % 2] as Database;
            if (index % 4 === 0) await terminateRuns(on, [{ namespace: 'default', runId: lease.runId, reason: '' }]);
            else await endRuns(on, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
            await tellParents(on, ids);
          }),
          suspendRuns(db, [{ ...parent, waits: [], arrivalsAwaited: 1, childrenAwaited: 20, isKept: false }]),
          n % 2 === 0
            ? terminateRuns(db, [{ namespace: 'default', runId: parent.runId, reason: '' }]).then(() =>
                closeChildren(db, [parent.runId]),
              )
            : closeChildren(db, [parent.runId]),
        ];
      }),
    );
    await tellParents(store.db, await untoldChildren(store.db, { limit: 1_000, minAgeMs: 0 }));
    await closeChildren(store.db, await unclosedParents(store.db, { limit: 1_000, minAgeMs: 0 }));
    for (const family of all) {
      const state = await stateOf(family);
      expect(state.openSteps).toBe(0);
      expect(state.status).not.toBe('WAITING');
    }
    expect(await deadlocks()).toBe(0);
  });
});
