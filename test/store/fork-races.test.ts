import {
  deleteRuns,
  type ForkRunOutcome,
  forkRuns,
  type LeaseRef,
  readHistory,
  recordSteps,
  retryRunAttempts,
  startRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { beginCommand, FAILURE, openTestStore, startCommand, type TestStore } from '../support/store.js';
import { until } from '../support/until.js';

const PAIRS = Number(process.env.PERDURE_RACE_PAIRS ?? 40);
const namespace = 'default';
const LARGE = { data: Buffer.alloc(5_000, 'x'), encoding: 'bytes' };

/** A fork against what happens to its origin, or to the other runs whose payloads it uses: no fork is ever without its payloads. */
describe('a fork races', () => {
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
    await end(open.map((row) => row.run_id));
  });

  const claimed = async (count: number): Promise<LeaseRef[]> => {
    await store.start(count);
    const leases = await store.claim(workerId, count);
    expect(leases).toHaveLength(count);
    for (const seq of [1, 2, 3])
      await recordSteps(
        store.db,
        leases.map((lease) => ({
          ...beginCommand(lease, { stepId: `s${seq}`, seq }),
          output: LARGE,
          eventSeq: seq + 1,
        })),
      );
    return leases;
  };
  const end = (runIds: readonly string[]) =>
    terminateRuns(
      store.db,
      runIds.map((runId) => ({ namespace, runId, reason: '' })),
    );
  const fork = async (
    runId: string,
    more: { workflowId?: string; requestId?: string } = {},
  ): Promise<ForkRunOutcome> => {
    const { workflowId = uuid(), requestId = null } = more;
    const action = { namespace, runId, actor: '', reason: '', requestId };
    return (await forkRuns(store.db, [{ ...action, stepId: 's3', workflowId, input: null }]))[0] as ForkRunOutcome;
  };
  const remove = async (runId: string) => (await deleteRuns(store.db, [{ namespace, runId }]))[0]?.kind;
  const sizesOf = async (runId: string) =>
    (await readHistory(store.db, runId, { limit: 10, after: null, payloads: true })).steps.map(
      ({ output }) => output?.data.length,
    );
  const left = async (runId: string) =>
    (await store.database.sql`select step_id from perdure.step_runs where run_id = ${runId} order by seq`).map(
      (row) => row.step_id as string,
    );

  it('the deletion of its origin: the fork is not made, or has its payloads', async () => {
    const runs = await claimed(PAIRS);
    await end(runs.map(({ runId }) => runId));
    let forks = 0;
    for (const [index, { runId }] of runs.entries()) {
      const [forked, deleted] = await (index % 2 === 0
        ? Promise.all([fork(runId), remove(runId)])
        : Promise.all([remove(runId), fork(runId)]).then(([b, a]) => [a, b] as const));
      expect(deleted).toBe('deleted');
      if (forked.kind !== 'forked') {
        expect(forked.kind).toBe('run_not_found');
        expect(await left(runId)).toEqual([]);
        continue;
      }
      forks++;
      expect(await sizesOf(forked.runId)).toEqual([5_000, 5_000]);
      expect(await left(runId)).toEqual(['s1', 's2']);
      await end([forked.runId]);
      expect(await remove(forked.runId)).toBe('deleted');
      expect(await left(runId)).toEqual([]);
    }
    expect(forks).toBeGreaterThan(0);
  });

  it('the deletion of its origin that waits for the lock of the fork: it judges again', async () => {
    const [{ runId }] = (await claimed(1)) as [LeaseRef];
    await end([runId]);
    let deletion: Promise<string | undefined> | undefined;
    let forked: ForkRunOutcome | undefined;
    await store.db.transaction(async (transaction) => {
      const action = { namespace, runId, actor: '', reason: '', requestId: null };
      [forked] = await forkRuns(transaction, [{ ...action, stepId: 's3', workflowId: null, input: null }]);
      deletion = remove(runId);
      await until('the deletion to wait for the lock', async () => {
        const [row] = await store.database.sql`select count(*)::int as waiting from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and query like '%perdure:delete_runs%'`;
        return row?.waiting === 1 ? true : undefined;
      });
    });
    expect(await deletion).toBe('deleted');
    expect(forked?.kind === 'forked' && (await sizesOf(forked.runId))).toEqual([5_000, 5_000]);
  });

  it('the deletion of the fork that it is made from: it has its payloads, and the last one takes them with it', async () => {
    for (const { runId: origin } of await claimed(PAIRS)) {
      const first = await fork(origin);
      if (first.kind !== 'forked') throw new Error(first.kind);
      // So that the payloads have no run any more, and the fork is at work on its own last step.
      const { runId } = first;
      const [lease] = (await store.claim(workerId)) as [LeaseRef];
      expect(lease.runId).toBe(runId);
      await recordSteps(store.db, [{ ...beginCommand(lease, { stepId: 's3', seq: 3 }), output: LARGE, eventSeq: 2 }]);
      await end([origin, runId]);
      expect(await remove(origin)).toBe('deleted');
      const [second, deleted] = await Promise.all([fork(runId), remove(runId)]);
      expect(deleted).toBe('deleted');
      if (second.kind !== 'forked') {
        expect(second.kind).toBe('run_not_found');
        expect(await left(origin)).toEqual([]);
        continue;
      }
      expect(await sizesOf(second.runId)).toEqual([5_000, 5_000]);
      await end([second.runId]);
      expect(await remove(second.runId)).toBe('deleted');
      expect(await left(origin)).toEqual([]);
    }
  });

  it('deletions of forks and of their origin at once leave nothing, and none of them is a deadlock', async () => {
    for (const { runId: origin } of await claimed(Math.ceil(PAIRS / 4))) {
      const forks: string[] = [];
      for (let n = 0; n < 4; n++) {
        const forked = await fork(origin);
        if (forked.kind === 'forked') forks.push(forked.runId);
      }
      const all = [origin, ...forks];
      await end(all);
      const batches = [all, [...all].reverse(), [forks[2], origin, forks[0]] as string[]];
      await Promise.all(
        batches.map((batch) =>
          deleteRuns(
            store.db,
            batch.map((runId) => ({ namespace, runId })),
          ),
        ),
      );
      for (const runId of all) expect(await left(runId)).toEqual([]);
      expect(await store.database.sql`select 1 from perdure.fork_payloads where owner_run_id = ${origin}`).toEqual([]);
    }
  });

  it('a retry of its origin that cuts its memo: it has all steps before the one it begins with, or is not made', async () => {
    for (const lease of await claimed(PAIRS)) {
      const cut = { from: { leaseToken: lease.leaseToken, eventSeq: 3 }, seq: 1 };
      const [forked] = await Promise.all([
        fork(lease.runId),
        retryRunAttempts(store.db, [{ ...lease, failure: FAILURE, retryAfterMs: 3_600_000, cut }]),
      ]);
      if (forked.kind === 'forked') expect(await sizesOf(forked.runId)).toEqual([5_000, 5_000]);
      else expect(forked.kind).toBe('step_not_found');
    }
  });

  it('a start of its workflow id: one of the two has it', async () => {
    for (const { runId } of await claimed(PAIRS)) {
      const workflowId = uuid();
      const [forked, [started]] = await Promise.all([
        fork(runId, { workflowId }),
        startRuns(store.db, [startCommand({ workflowId, taskQueue: 'other' })]),
      ]);
      const open = await store.database.sql`
        select run_id from perdure.workflow_runs where workflow_id = ${workflowId} and finished_at is null`;
      expect(open).toHaveLength(1);
      expect([forked.kind, started?.kind]).toEqual(
        forked.kind === 'forked' ? ['forked', 'already_exists'] : ['workflow_id_taken', 'started'],
      );
    }
  });

  it('a repeat of itself: both are the same fork', async () => {
    for (const { runId } of await claimed(PAIRS)) {
      const requestId = uuid();
      const [one, other] = await Promise.all([fork(runId, { requestId }), fork(runId, { requestId })]);
      expect([one.kind, other.kind].sort()).toEqual(['already_forked', 'forked']);
      expect('runId' in one && 'runId' in other && one.runId === other.runId).toBe(true);
    }
  });
});
