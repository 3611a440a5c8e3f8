import {
  beginSteps,
  claimRuns,
  type Database,
  deleteRuns,
  endRuns,
  type LeaseRef,
  openDatabase,
  registerWorkers,
  startRuns,
  terminateRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startCommand } from '../support/store.js';
import { until } from '../support/until.js';

const namespace = 'default';

describe('deleting runs', () => {
  let database: TestDatabase;
  let db: Database;
  const workerId = uuid();
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url });
    const worker = { workerId, namespace, taskQueue: 'q', workflowTypes: ['w'], build: '', identity: '' };
    await registerWorkers(db, [{ ...worker, slots: 1, leaseMs: 30_000 }]);
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });

  const leased = async (): Promise<LeaseRef> => {
    const start = startCommand({ namespace });
    await startRuns(db, [start], [null]);
    const { runId } = start;
    const [claim] = await claimRuns(
      db,
      { namespace, taskQueue: 'q', workflowTypes: ['w'], slots: [{ workerId }] },
      { memoPageBytes: 1, memoPageEntries: 1 },
    );
    if (claim?.kind !== 'claimed') throw new Error('nothing to claim');
    return { namespace, runId, leaseToken: claim.claim.run.leaseToken };
  };
  const endedWith = async (steps: number): Promise<string> => {
    const lease = await leased();
    await endRuns(db, [{ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false }]);
    await database.sql`
      insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, counted_attempt, lease_token,
        started_at, finished_at)
      select ${lease.runId}::uuid, 's' || n, 1, n, 'FUNCTION', 'COMPLETED', 1, 1, now(), now()
      from generate_series(1, ${steps}::int) n`;
    return lease.runId;
  };
  const rowsOf = async (ids: readonly string[]) => {
    const runIds = `{${ids.join(',')}}`;
    const [row] = await database.sql`select
      (select count(*)::int from perdure.workflow_runs where run_id = any(${runIds}::uuid[])) as runs,
      (select count(*)::int from perdure.step_runs where run_id = any(${runIds}::uuid[])) as steps`;
    return row;
  };

  it('a batch of deletions takes any number of runs and steps, and answers each command', async () => {
    const runIds = [await endedWith(3), await endedWith(12_000), await endedWith(0), await endedWith(10_000)];
    const kept = await endedWith(2);
    const [first, ...others] = runIds as [string, ...string[]];
    const commands = [first, ...others, uuid(), first].map((runId) => ({ namespace, runId }));
    const outcomes = await deleteRuns(db, commands);
    expect(outcomes.map(({ kind }) => kind)).toEqual([
      ...runIds.map(() => 'deleted'),
      'run_not_found',
      'run_not_found',
    ]);
    expect(await rowsOf(runIds)).toEqual({ runs: 0, steps: 0 });
    expect(await rowsOf([kept])).toEqual({ runs: 1, steps: 2 });
  });

  it('a deletion takes the marks of children that are to be closed with it', async () => {
    const runId = await endedWith(1);
    await database.sql`insert into perdure.child_cuts (run_id, cut_at, mark) values (${runId}, now(), gen_random_uuid())`;
    expect(await deleteRuns(db, [{ namespace, runId }])).toEqual([{ kind: 'deleted' }]);
    expect(await database.sql`select 1 from perdure.child_cuts where run_id = ${runId}`).toEqual([]);
  });

  it('a deletion leaves no step of a run that began one and ended while the deletion waited for its lock', async () => {
    const lease = await leased();
    const { runId } = lease;
    let deletion: Promise<readonly { kind: string }[]> | undefined;
    await db.transaction(async (transaction) => {
      const step = {
        stepId: 's',
        seq: 1,
        stepKind: 'FUNCTION',
        attemptNumber: 1,
        countedAttempt: 1,
        maxCountedAttempts: 0,
      } as const;
      await beginSteps(transaction, [{ ...lease, ...step, timeoutMs: 0, input: null, uncancellable: false }]);
      await terminateRuns(transaction, [{ namespace, runId, reason: '' }]);
      deletion = deleteRuns(db, [{ namespace, runId }]);
      await until('the deletion to wait for the lock', async () => {
        const [row] = await database.sql`select count(*)::int as waiting from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and query like '%perdure:delete_runs%'`;
        return row?.waiting === 1 ? true : undefined;
      });
    });
    expect(await deletion).toEqual([{ kind: 'deleted' }]);
    expect(await rowsOf([runId])).toEqual({ runs: 0, steps: 0 });
  });
});
