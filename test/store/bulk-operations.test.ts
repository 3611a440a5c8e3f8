import {
  type AdvancedBulk,
  advanceBulkOperation,
  allStatements,
  type BulkKind,
  bulkDueInMs,
  cancelRuns,
  continueRuns,
  controlBulkOperation,
  type Database,
  endRuns,
  findMatchingRuns,
  getBulkOperation,
  listBulkOperations,
  openDatabase,
  pauseRuns,
  type RunFilter,
  retryRuns,
  type StartBulkOperation,
  startBulkOperation,
  terminateRuns,
} from '@perdure/store';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { FAILURE, openTestStore, type TestStore } from '../support/store.js';
import { until } from '../support/until.js';

const FILTER: RunFilter = {
  namespace: 'default',
  statuses: [],
  workflowType: null,
  taskQueue: null,
  workflowId: null,
  build: null,
  compensation: null,
  parentRunId: null,
  held: false,
  paused: false,
  unresolved: false,
  failureFingerprint: null,
  createdAfter: null,
  createdBefore: null,
};
const OPEN = ['PENDING', 'RUNNING', 'SLEEPING', 'WAITING', 'PAUSED'] as const;

describe('bulk operations', () => {
  let store: TestStore;
  let other: Database;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    other = openDatabase({ url: store.database.url, maxConnections: 2 });
    workerId = await store.register();
  });
  afterAll(async () => {
    await other.close();
    await store.stop();
  });
  beforeEach(async () => {
    await store.database.sql`truncate perdure.bulk_operations, perdure.workflow_runs, perdure.step_runs,
      perdure.signals, perdure.run_actions, perdure.run_pauses`;
  });

  const startBulk = async (kind: BulkKind, filter: Partial<RunFilter> = {}, more: Partial<StartBulkOperation> = {}) => {
    const { operation } = await startBulkOperation(store.db, {
      kind,
      filter: { ...FILTER, ...filter },
      actor: 'ada',
      reason: 'clean up',
      requestId: null,
      signal: kind === 'SIGNAL' ? { name: 'go', payload: { data: new Uint8Array([0, 255]), encoding: 'x' } } : null,
      rate: 10_000,
      matched: 0,
      isExact: true,
      ...more,
    });
    return operation.operationId;
  };
  const advance = (db: Database = store.db): Promise<AdvancedBulk | null> =>
    advanceBulkOperation(db, { workedBy: 'server', maxUnconsumedSignals: 10 });
  /** Until it has ended, as fast as its rate allows. */
  const finish = async (operationId: string, on: readonly Database[] = [store.db]) => {
    for (;;) {
      const operation = await getBulkOperation(store.db, { namespace: 'default', operationId });
      if (operation === null || operation.finishedAt !== null) return operation;
      await Promise.all(on.map(advance));
      await store.database
        .sql`update perdure.bulk_operations set due_at = due_at - interval '10 s' where status = 'RUNNING'`;
    }
  };
  const statuses = async () => {
    const rows = await store.database.sql<{ status: string; runs: number }[]>`
      select status, count(*)::int as runs from perdure.workflow_runs group by 1`;
    return Object.fromEntries(rows.map(({ status, runs }) => [status, runs]));
  };
  const fail = async (count: number) => {
    await store.start(count);
    const leases = await store.claim(workerId, count);
    await endRuns(
      store.db,
      leases.map((lease) => ({ ...lease, end: 'FAILED', failure: FAILURE, cut: null })),
    );
    return leases.map(({ runId }) => runId).sort();
  };
  const terminated = async (count: number) => {
    const runIds = await store.start(count);
    await terminateRuns(
      store.db,
      runIds.map((runId) => ({ namespace: 'default', runId, reason: '' })),
    );
    return runIds;
  };
  const blocked = (statement: string) =>
    until(`${statement} to wait`, async () => {
      const [row] = await store.database.sql<{ pid: number }[]>`select pid from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock' and query like ${`%perdure:${statement}%`}`;
      return row?.pid;
    });

  it('act on every run that matched when it was started, once, and on no other', async () => {
    await store.start(1_203);
    await store.start(50, { workflowType: 'other' });
    const operationId = await startBulk('CANCEL', { statuses: OPEN, workflowType: 'w' }, { matched: 1_203 });
    await store.start(10);
    expect(await finish(operationId)).toMatchObject({
      status: 'COMPLETED',
      matched: 1_203,
      changed: 1_203,
      unchanged: 0,
      refused: 0,
      workedBy: 'server',
      actions: [{ kind: 'START', actor: 'ada', reason: 'clean up' }],
    });
    expect(await statuses()).toEqual({ CANCELLED: 1_203, PENDING: 60 });
    expect(await bulkDueInMs(store.db)).toBeNull();
    expect(await advance()).toBeNull();
  });

  it('may be carried out by several servers at once', async () => {
    await store.start(2_000);
    const operationId = await startBulk('SIGNAL', { statuses: OPEN }, { rate: 1_000 });
    expect(await finish(operationId, [store.db, other, store.db, other])).toMatchObject({
      changed: 2_000,
      unchanged: 0,
    });
    const [row] = await store.database.sql<{ signals: number; runs: number; payload: string }[]>`
      select count(*)::int as signals, count(distinct run_id)::int as runs, min(encode(payload, 'hex')) as payload
      from perdure.signals where name = 'go' and sender = 'ada'`;
    expect(row).toEqual({ signals: 2_000, runs: 2_000, payload: '00ff' });
  });

  it('begin a chunk again when its server died in it, and act on each run once', async () => {
    const runIds = (await store.start(30)).sort();
    const operationId = await startBulk('SIGNAL', { statuses: OPEN }, { rate: 200 });
    await advance();
    await store.database.sql`update perdure.bulk_operations set due_at = perdure.clock()`;
    let dies: Promise<unknown> = Promise.resolve();
    await store.db.transaction(async (tx) => {
      await tx.query({ name: 'hold', text: 'select 1 from perdure.workflow_runs where run_id = $1 for update' }, [
        runIds[15] ?? '',
      ]);
      dies = advance(other).catch((error: unknown) => error);
      await store.database.sql`select pg_terminate_backend(${await blocked('send_signals')})`;
      expect(await dies).toBeInstanceOf(Error);
    });
    expect(await getBulkOperation(store.db, { namespace: 'default', operationId })).toMatchObject({ changed: 10 });
    expect(await finish(operationId)).toMatchObject({ changed: 30, unchanged: 0 });
    const counts = await store.database.sql`select run_id from perdure.signals order by run_id`;
    expect(counts.map(({ run_id }) => run_id)).toEqual(runIds);
  });

  it('retry each run once although their server died among the retries, also those that failed again meanwhile', async () => {
    const runIds = await fail(20);
    const operationId = await startBulk('RETRY', { statuses: ['FAILED'], unresolved: true });
    expect(await advance()).toMatchObject({ acts: [] });
    // The server has retried some of the chunk, and died. Two of them fail again.
    const requestId = `bulk ${operationId}`;
    await retryRuns(
      store.db,
      runIds.slice(0, 7).map((runId) => ({ namespace: 'default', runId, actor: '', reason: '', requestId })),
    );
    const again = await store.claim(workerId, 2);
    await endRuns(
      store.db,
      again.map((lease) => ({ ...lease, end: 'FAILED', failure: FAILURE, cut: null })),
    );
    expect(await finish(operationId)).toMatchObject({ changed: 20, unchanged: 0, refused: 0 });
    expect(await statuses()).toEqual({ FAILED: 2, PENDING: 18 });
    const actions = await store.database.sql<
      { run_id: string }[]
    >`select run_id from perdure.run_actions where kind = 'RETRY'`;
    expect(actions.map(({ run_id }) => run_id).sort()).toEqual(runIds);
  });

  it('that are paused or aborted change no run after the answer, which waits for the chunk under way', async () => {
    const runIds = (await store.start(30)).sort();
    const operationId = await startBulk('CANCEL', { statuses: OPEN }, { rate: 200 });
    const control = (act: 'PAUSE' | 'RESUME' | 'ABORT') =>
      controlBulkOperation(store.db, { namespace: 'default', operationId, act, actor: 'bob', reason: 'wait' });
    let chunk: Promise<unknown> = Promise.resolve();
    let pause: Promise<unknown> = Promise.resolve();
    await store.db.transaction(async (tx) => {
      await tx.query({ name: 'hold', text: 'select 1 from perdure.workflow_runs where run_id = $1 for update' }, [
        runIds[5] ?? '',
      ]);
      chunk = advance(other);
      await blocked('cancel_runs');
      pause = control('PAUSE');
      await blocked('control_bulk_operation');
    });
    await chunk;
    expect(await pause).toMatchObject({ kind: 'changed', operation: { status: 'PAUSED', changed: 10 } });
    expect(await advance()).toBeNull();
    expect(await bulkDueInMs(store.db)).toBeNull();
    expect(await control('PAUSE')).toMatchObject({ kind: 'unchanged' });
    expect(await control('RESUME')).toMatchObject({ kind: 'changed', operation: { status: 'RUNNING' } });
    expect(await control('RESUME')).toMatchObject({ kind: 'unchanged' });
    await advance();
    expect(await control('ABORT')).toMatchObject({ operation: { status: 'ABORTED', changed: 20 } });
    expect(await advance()).toBeNull();
    expect(await control('ABORT')).toMatchObject({ kind: 'unchanged' });
    expect(await control('RESUME')).toMatchObject({ kind: 'ended' });
    expect(await statuses()).toEqual({ CANCELLED: 20, PENDING: 10 });
    const operation = await getBulkOperation(store.db, { namespace: 'default', operationId });
    expect(operation?.actions.map(({ kind, actor }) => `${kind} ${actor}`)).toEqual([
      'START ada',
      'PAUSE bob',
      'RESUME bob',
      'ABORT bob',
    ]);
  });

  it('keep to their rate', async () => {
    await store.start(30);
    await startBulk('CANCEL', { statuses: OPEN }, { rate: 100 });
    const dueMs = async () => {
      const [row] = await store.database.sql<{ due: number; late: number }[]>`
        select extract(epoch from due_at)::float8 * 1000 as due, extract(epoch from perdure.clock() - due_at)::float8 * 1000 as late
        from perdure.bulk_operations`;
      return row ?? { due: 0, late: 0 };
    };
    const before = await dueMs();
    expect((await advance())?.acts).toHaveLength(5);
    expect((await dueMs()).due - before.due).toBeGreaterThanOrEqual(49.9);
    await store.database.sql`update perdure.bulk_operations set due_at = perdure.clock() + interval '1 hour'`;
    expect(await advance()).toBeNull();
    expect(await bulkDueInMs(store.db)).toBeGreaterThan(3_000_000);
    // What came late may be made up for, by one second and no more.
    await store.database.sql`update perdure.bulk_operations set due_at = perdure.clock() - interval '1 hour'`;
    const [then] = await store.database.sql<
      { ms: number }[]
    >`select extract(epoch from perdure.clock())::float8 * 1000 as ms`;
    await advance();
    expect((await dueMs()).due).toBeGreaterThanOrEqual((then?.ms ?? 0) - 1_000);
  });

  it.each([
    ['TERMINATE', 'PENDING', 'TERMINATED'],
    ['DELETE', 'TERMINATED', undefined],
  ] as const)('%s runs that are %s', async (kind, from, to) => {
    if (from === 'PENDING') await store.start(120);
    else await terminated(120);
    const operationId = await startBulk(kind, { statuses: [from] });
    expect(await finish(operationId)).toMatchObject({ changed: 120, unchanged: 0 });
    expect(await statuses()).toEqual(to === undefined ? {} : { [to]: 120 });
  });

  it('PAUSE and RESUME runs, also those that their worker has not given back', async () => {
    await store.start(12);
    await store.claim(workerId, 5);
    expect(await finish(await startBulk('PAUSE', { statuses: OPEN }))).toMatchObject({ changed: 12 });
    expect(await finish(await startBulk('PAUSE', { statuses: OPEN }))).toMatchObject({ changed: 0, unchanged: 12 });
    const pauses = await store.database.sql`select paused_by, reason from perdure.run_pauses`;
    expect(pauses).toHaveLength(12);
    expect(pauses[0]).toMatchObject({ paused_by: 'ada', reason: 'clean up' });
    await store.start(3);
    const resumed = await finish(await startBulk('RESUME', { statuses: ['PAUSED', 'RUNNING'], paused: true }));
    expect(resumed).toMatchObject({ changed: 12, unchanged: 0 });
  });

  it('DISMISS dead letters', async () => {
    await fail(12);
    const filter = { statuses: ['FAILED'], unresolved: true } as const;
    expect(await finish(await startBulk('DISMISS', filter))).toMatchObject({ changed: 12 });
    expect(await finish(await startBulk('DISMISS', filter))).toMatchObject({ changed: 0, unchanged: 0 });
    const [row] = await store.database
      .sql`select count(*)::int as n from perdure.run_actions where kind = 'DISMISS' and actor = 'ada'`;
    expect(row?.n).toBe(12);
  });

  it('say which runs they could not act on, and why', async () => {
    const [first = '', second = ''] = await fail(2);
    await store.database.sql`update perdure.workflow_runs set compensation = 'COMPLETE' where run_id = ${first}`;
    await store.start(1, { workflowId: String((await store.run(second)).workflow_id) });
    const operationId = await startBulk('RETRY', { statuses: ['FAILED'], unresolved: true });
    expect(await finish(operationId)).toMatchObject({
      changed: 0,
      refused: 2,
      refusals: [
        { runId: first, why: expect.stringContaining('compensated') },
        { runId: second, why: expect.stringContaining('is open') },
      ],
    });
  });

  it('reach a run that continues as another one while they are under way', async () => {
    await store.start(1);
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('not claimed');
    const operationId = await startBulk('CANCEL', { statuses: OPEN });
    const how = { taskQueue: null, priority: null, startDelayMs: 0, runTimeoutMs: null, executionTimeoutMs: null };
    const [continued] = await continueRuns(store.db, [{ ...lease, ...how, input: null, hasOpenSteps: false }]);
    if (continued?.kind !== 'continued') throw new Error('not continued');
    await store.start(1);
    expect(await finish(operationId)).toMatchObject({ changed: 1 });
    expect(await statuses()).toEqual({ CONTINUED: 1, CANCELLED: 1, PENDING: 1 });
  });

  it('with one request id are one', async () => {
    const command = {
      kind: 'CANCEL',
      filter: FILTER,
      actor: '',
      reason: '',
      signal: null,
      rate: 1,
      matched: 3,
    } as const;
    const starts = await Promise.all(
      Array.from({ length: 5 }, () => startBulkOperation(store.db, { ...command, isExact: true, requestId: 'one' })),
    );
    expect(starts.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(starts.map(({ operation }) => operation.operationId)).size).toBe(1);
    const page = await listBulkOperations(store.db, 'default', { limit: 10, after: null });
    expect(page).toMatchObject({ operations: [{ kind: 'CANCEL', filter: FILTER }], next: null });
    expect((await listBulkOperations(store.db, 'other', { limit: 10, after: null })).operations).toEqual([]);
  });

  it('look at a bounded number of runs in one statement, whatever matches', async () => {
    await store.start(25);
    const find = (after: string | null, filter: Partial<RunFilter>) =>
      findMatchingRuns(store.db, { ...FILTER, ...filter }, { after, limit: 4, scan: 10 }, null);
    let cursor: string | null = null;
    let looks = 0;
    for (;;) {
      const found = await find(cursor, { workflowType: 'none' });
      looks++;
      expect(found.runIds).toEqual([]);
      if (found.isEnd) break;
      cursor = found.cursor;
    }
    expect(looks).toBe(3);
    const all: string[] = [];
    for (let after: string | null = null; ; ) {
      const found = await find(after, {});
      all.push(...found.runIds);
      if (found.isEnd) break;
      after = found.cursor;
    }
    expect(all).toEqual([...all].sort());
    expect(new Set(all).size).toBe(25);
  });

  it('meet cancels, pauses and terminations of the same runs in any order without a deadlock', async () => {
    const runIds = await store.start(300);
    const operationId = await startBulk('CANCEL', { statuses: OPEN }, { rate: 300 });
    const deadlocks = async () => {
      const [row] = await store.database
        .sql`select deadlocks::int as n from pg_stat_database where datname = current_database()`;
      return Number(row?.n);
    };
    const before = await deadlocks();
    const commands = [...runIds].reverse().map((runId) => ({ namespace: 'default', runId, reason: '', by: '' }));
    await Promise.all([
      finish(operationId, [other]),
      ...Array.from({ length: 10 }, (_, n) => (n % 2 === 0 ? pauseRuns : cancelRuns)(store.db, commands)),
    ]);
    expect(await deadlocks()).toBe(before);
  });

  it('find their runs by an index, and never read the whole table', async () => {
    const indexes: Readonly<Record<string, string>> = {
      matching_runs: 'workflow_runs_listed',
      matching_failed_runs: 'workflow_runs_failed',
      matching_dead_letters: 'workflow_runs_dead_letters',
      matching_paused_runs: 'workflow_runs_paused',
      matching_children: 'workflow_runs_children',
    };
    for (const [name, index] of Object.entries(indexes)) {
      const text = allStatements().find((statement) => statement.name === name)?.text ?? '';
      await store.db.transaction(async (tx) => {
        const args = Array.from({ length: 18 }, () => 'null').join(', ');
        await tx.query({ name: 'prepare', text: `prepare ${name}_plan as ${text}` }, []);
        const lines = await tx.query<{ 'QUERY PLAN': string }>(
          { name: 'explain', text: `explain execute ${name}_plan(${args})` },
          [],
        );
        await tx.query({ name: 'deallocate', text: `deallocate ${name}_plan` }, []);
        const plan = lines.map((line) => line['QUERY PLAN']).join('\n');
        expect(plan).toContain(`using ${index} on workflow_runs r`);
        expect(plan).not.toContain('Seq Scan');
      });
    }
  });

  it('of another namespace are not found', async () => {
    const operationId = await startBulk('CANCEL');
    const ref = { namespace: 'other', operationId };
    expect(await getBulkOperation(store.db, ref)).toBeNull();
    expect(await controlBulkOperation(store.db, { ...ref, act: 'ABORT', actor: '', reason: '' })).toEqual({
      kind: 'operation_not_found',
    });
  });
});
