import {
  allStatements,
  dismissRuns,
  endRuns,
  type Failure,
  listFailureGroups,
  listRuns,
  retryRuns,
} from '@perdure/store';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openTestStore, type TestStore } from '../support/store.js';
import { until } from '../support/until.js';

const ANY = {
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
  unresolved: true,
  failureFingerprint: null,
  createdAfter: null,
  createdBefore: null,
} as const;

describe('dead letters', () => {
  let store: TestStore;
  let workerId: string;
  beforeAll(async () => {
    store = await openTestStore();
    workerId = await store.register();
  });
  afterAll(() => store.stop());
  beforeEach(async () => {
    await store.database.sql`delete from perdure.workflow_runs`;
  });

  /** Lets runs fail, one for each failure; returns their ids. */
  const fail = async (failures: readonly Partial<Failure>[], more: object = {}) => {
    const runIds = await store.start(failures.length, more);
    const leases = await store.claim(workerId, failures.length);
    const failureOf = new Map(runIds.map((runId, index) => [runId, failures[index]]));
    await endRuns(
      store.db,
      leases.map((lease) => ({
        ...lease,
        end: 'FAILED',
        failure: { type: 'Error', message: 'm', reason: 'APPLICATION', ...failureOf.get(lease.runId) },
        cut: null,
      })),
    );
    return runIds;
  };
  const groups = async (workflowType: string | null = null) =>
    (await listFailureGroups(store.db, { namespace: 'default', workflowType }, { limit: 100, after: null })).groups;
  const listed = async (more: object = {}) =>
    (await listRuns(store.db, { ...ANY, ...more }, { limit: 100, after: null })).runs.map(({ runId }) => runId);
  const dismiss = (runId: string, requestId: string | null = null) =>
    dismissRuns(store.db, [{ namespace: 'default', runId, actor: 'ada', reason: 'known', requestId }]);

  it.each([
    ['numbers', 'row 17 of 1.5 s', 'row 4 of 22.75 s'],
    ['run ids', 'run 01a2b3c4-0000-7000-8000-0123456789ab is gone', 'run 01a2b3c4-0000-7000-8000-ba9876543210 is gone'],
    ['ids with digits', 'no order-4711 (0x1f)', 'no order-x9 (0xffee)'],
    ['quoted values', `no customer 'Ada' in "north"`, `no customer 'Grace H.' in "south west"`],
    ['times and addresses', 'connect 10.0.0.1:5432 at 12:30:01', 'connect 10.0.7.12:5433 at 9:05:59'],
  ])('messages that differ in %s have one fingerprint', async (_, one, other) => {
    await fail([{ message: one }, { message: other }]);
    expect(await groups()).toMatchObject([{ runs: 2 }]);
  });

  it('what differs in another way has another fingerprint: type, code, step, words, and the workflow', async () => {
    await fail([
      { message: "can't reach the printer; it's off" },
      { message: "can't reach the scanner; it's off" },
      { type: 'TypeError', message: "can't reach the printer; it's off" },
      { code: 'EPIPE', message: "can't reach the printer; it's off" },
      { stepId: 'print', message: "can't reach the printer; it's off" },
      { stepId: 'step2', message: "can't reach the printer; it's off" },
      { stepId: 'step3', message: "can't reach the printer; it's off" },
    ]);
    expect(await groups()).toHaveLength(7);
    const [row] = await store.database.sql<{ differ: boolean }[]>`
      select perdure.failure_fingerprint('a', '{"message":"m"}') <> perdure.failure_fingerprint('b', '{"message":"m"}') as differ`;
    expect(row?.differ).toBe(true);
  });

  it('uses of a step in a loop, and steps whose names end with a number, have one fingerprint', async () => {
    await fail(['charge', 'charge#2', 'charge#31'].map((stepId) => ({ stepId })));
    await fail(['item-1', 'item-22#2'].map((stepId) => ({ stepId })));
    expect((await groups()).map(({ runs }) => runs).sort()).toEqual([2, 3]);
  });

  it('stacks do not count, and very long messages are looked at in their beginning only', async () => {
    const long = 'a long message without digits '.repeat(2_000);
    await fail([
      { message: `${long}x`, stack: 'at a (a.js:1:1)' },
      { message: `${long}y`, stack: 'at b (b.js:2:2)' },
    ]);
    const [group] = await groups();
    expect(group).toMatchObject({ runs: 2 });
    expect(group?.failure.message).toHaveLength(1_000);
  });

  it('groups have their count, their first and last failure and their newest run, page by page', async () => {
    const old = await fail([{ message: 'a' }, { message: 'b' }]);
    await store.database.advanceClock(60_000);
    const young = await fail([{ message: 'a' }, { message: 'c' }]);
    const all = await groups();
    expect(all.map(({ fingerprint }) => fingerprint)).toEqual(all.map(({ fingerprint }) => fingerprint).sort());
    const twice = all.find(({ runs }) => runs === 2);
    expect(twice).toMatchObject({ newestRunId: young[0], workflowType: 'w', failure: { type: 'Error', message: 'a' } });
    expect(Number(twice?.lastAt) - Number(twice?.firstAt)).toBeGreaterThanOrEqual(60_000);
    const pages = [];
    for (let after: string | null = null; ; ) {
      const page = await listFailureGroups(store.db, { namespace: 'default', workflowType: null }, { limit: 1, after });
      pages.push(...page.groups);
      after = page.next;
      if (after === null) break;
    }
    expect(pages).toEqual(all);
    expect(await groups('w')).toEqual(all);
    expect(await groups('other')).toEqual([]);
    expect((await listed({ failureFingerprint: twice?.fingerprint })).sort()).toEqual([old[0], young[0]].sort());
    expect(await listed({ failureFingerprint: twice?.fingerprint, workflowType: 'other' })).toEqual([]);
    expect(await listed()).toHaveLength(4);
  });

  it('a dismissed run stays FAILED, is a dead letter no longer, and says who has dismissed it and why', async () => {
    const [runId = '', other = ''] = await fail([{}, {}]);
    expect(await dismiss(runId)).toEqual([{ kind: 'dismissed' }]);
    expect(await listed()).toEqual([other]);
    expect(await groups()).toMatchObject([{ runs: 1 }]);
    expect(await store.run(runId)).toMatchObject({ status: 'FAILED' });
    const actions = await store.database.sql`select * from perdure.run_actions where run_id = ${runId}`;
    expect(actions).toMatchObject([{ kind: 'DISMISS', actor: 'ada', reason: 'known' }]);
    expect(await dismiss(runId)).toEqual([{ kind: 'already_dismissed' }]);
    expect(await store.database.sql`select * from perdure.run_actions where run_id = ${runId}`).toHaveLength(1);
  });

  it('a dismissed run that is retried and fails again is a dead letter again; a repeat of the call leaves it one', async () => {
    const [runId = ''] = await fail([{}]);
    await dismiss(runId, 'once');
    await retryRuns(store.db, [{ namespace: 'default', runId, actor: '', reason: '', requestId: null }]);
    expect(await listed()).toEqual([]);
    const [lease] = await store.claim(workerId);
    if (lease === undefined) throw new Error('not claimed');
    const failure = { type: 'Error', message: 'm', reason: 'APPLICATION' } as const;
    await endRuns(store.db, [{ ...lease, end: 'FAILED', failure, cut: null }]);
    expect(await listed()).toEqual([runId]);
    expect(await dismiss(runId, 'once')).toEqual([{ kind: 'already_dismissed' }]);
    expect(await listed()).toEqual([runId]);
    expect(await dismiss(runId, 'twice')).toEqual([{ kind: 'dismissed' }]);
    expect(await listed()).toEqual([]);
  });

  it('a dismissal that has waited for a retry and another failure is about that failure', async () => {
    const [runId = ''] = await fail([{}]);
    let dismissal: Promise<unknown> = Promise.resolve();
    await store.db.transaction(async (tx) => {
      await retryRuns(tx, [{ namespace: 'default', runId, actor: '', reason: '', requestId: null }]);
      dismissal = dismiss(runId);
      await until('the dismissal to wait', async () => {
        const [row] = await store.database.sql`select 1 from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and query like '%perdure:dismiss_runs%'`;
        return row;
      });
      const fails = `update perdure.workflow_runs set status = 'FAILED', available_at = null, finished_at = perdure.clock(),
        failure = '{"type":"Error","message":"again"}' where run_id = '${runId}'`;
      await tx.query({ name: 'fail_again', text: fails }, []);
    });
    expect(await dismissal).toEqual([{ kind: 'dismissed' }]);
    expect(await listed()).toEqual([]);
  });

  it('a child that its parent was told of is no dead letter; one that was left alone is', async () => {
    const [told = '', abandoned = ''] = await fail([{}, {}]);
    const parent = uuid();
    for (const [runId, close] of [
      [told, 'CANCEL'],
      [abandoned, 'ABANDON'],
    ] as const) {
      await store.database.sql`
        update perdure.workflow_runs set parent_run_id = ${parent}, parent_step_id = 's', parent_close = ${close}
        where run_id = ${runId}`;
    }
    expect(await listed()).toEqual([abandoned]);
    expect(await groups()).toMatchObject([{ runs: 1, newestRunId: abandoned }]);
  });

  it('groups and their runs are read from the index of dead letters', async () => {
    for (const name of ['list_failure_groups', 'list_dead_letters_alike']) {
      const text = allStatements().find((statement) => statement.name === name)?.text ?? '';
      const parameters = name === 'list_failure_groups' ? 5 : 14;
      await store.db.transaction(async (tx) => {
        const args = Array.from({ length: parameters }, () => 'null').join(', ');
        await tx.query({ name: 'prepare', text: `prepare ${name}_plan as ${text}` }, []);
        const lines = await tx.query<{ 'QUERY PLAN': string }>(
          { name: 'explain', text: `explain execute ${name}_plan(${args})` },
          [],
        );
        await tx.query({ name: 'deallocate', text: `deallocate ${name}_plan` }, []);
        const plan = lines.map((line) => line['QUERY PLAN']).join('\n');
        const used = [...plan.matchAll(/(?:using|Index Scan on) (workflow_runs_\w+)/g)].map((match) => match[1]);
        expect(new Set(used)).toEqual(new Set(['workflow_runs_dead_letters']));
        expect(plan).not.toContain('Seq Scan');
      });
    }
  });
});
