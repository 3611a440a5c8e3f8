import {
  allStatements,
  claimRuns,
  closeChildren,
  type Database,
  openDatabase,
  recordSteps,
  registerWorkers,
  renewLeases,
  startChildren,
  startIdentity,
  startRuns,
  tellParents,
  terminateRuns,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startCommand } from '../support/store.js';

/** The parameters of `record_steps` for a step that is not there yet. */
function recordParameters(runs: readonly { readonly runId: string; readonly leaseToken: number }[]): string[] {
  const list = (value: (run: (typeof runs)[number]) => string | number | boolean) => `{${runs.map(value).join(',')}}`;
  return [
    list(({ runId }) => runId),
    list(() => 'default'),
    list(({ leaseToken }) => leaseToken),
    list(() => 'new'),
    list(() => 99),
    list(() => 'FUNCTION'),
    list(() => 1),
    list(() => 1),
    list(() => 3),
    list(() => false),
    list(() => 'NULL'),
    list(() => 'NULL'),
    list(() => 1),
  ];
}

interface Plan {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly Plans?: readonly Plan[];
}

describe('statements', () => {
  let database: TestDatabase;
  let db: Database;
  beforeAll(async () => {
    database = await createDatabase();
    db = openDatabase({ url: database.url });
    await database.sql.unsafe(`
      insert into perdure.workflow_runs (run_id, created_at, updated_at, finished_at, wake_at, leased_by, lease_expires_at, available_at,
        lease_token, max_lost_leases, status, namespace, workflow_id, workflow_type, task_queue)
      select gen_random_uuid(), now(), now(), case when k = 'done' then now() end, case when k = 'sleep' then now() + interval '1 day' end,
        case when k = 'run' then gen_random_uuid() end, case when k = 'run' then now() + interval '1 minute' end, case when k = 'wait' then now() end,
        case when k = 'wait' then 0 else 1 end, 10,
        case k when 'done' then 'COMPLETED' when 'sleep' then 'SLEEPING' when 'run' then 'RUNNING' else 'PENDING' end,
        'default', gen_random_uuid()::text, 'w', 'q' || (i % 10)
      from generate_series(1, 30000) i,
        lateral (select case when i % 100 = 0 then 'run' when i % 100 = 1 then 'wait' when i % 3 = 0 then 'sleep' else 'done' end as k) x;
      insert into perdure.step_runs (run_id, started_at, finished_at, seq, attempt_number, counted_attempt, lease_token, event_seq, kind, status, step_id)
      select r.run_id, now(), now(), n, 1, 1, 1, n, 'FUNCTION', 'COMPLETED', 's' || n
      from (select run_id from perdure.workflow_runs limit 5000) r, generate_series(1, 5) n;
      analyze perdure.workflow_runs; analyze perdure.step_runs;`);
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });

  it('every statement can be prepared', async () => {
    expect(allStatements().length).toBeGreaterThan(30);
    for (const { name, text } of allStatements()) {
      await database.sql.unsafe(`prepare "t_${name}" as ${text}`).catch((error: Error) => {
        throw new Error(`${name}: ${error.message}`);
      });
      await database.sql.unsafe(`deallocate "t_${name}"`).catch(() => undefined);
    }
  });

  const id = '00000000-0000-7000-8000-000000000000';
  const hot: Record<string, readonly string[]> = {
    record_steps: [],
    record_first_attempts: [],
    complete_runs: [],
    complete_runs_with_step: [],
    claim_runs: ["'default'", "'q1'", `'{w}'`, `'{${id}}'`, '1000', '1e6'],
    begin_steps: [],
    complete_steps: [],
    fail_steps: [],
    end_runs: [],
    suspend_runs: [],
    schedule_sleeps: [],
    renew_leases: [],
    release_runs: [],
    read_memo: [],
    find_runs: [],
    wake_sleepers: [],
    clear_suspects: [],
    start_runs: [],
    next_wake: [],
    delete_runs: [],
    answer_updates: [],
    find_answers: [],
    received_updates: [],
    set_run_states: [],
    read_run_state: [],
    sent_with_start: [],
    left_children: [],
    list_compensated: [],
    count_compensated: [],
    begin_compensations: [],
    list_children: [],
    count_children: [],
    unclosed_parents: [],
    list_pending_promises: [],
    list_run_promises: [],
    get_promise: [],
  };
  for (const name of Object.keys(hot)) {
    it(`${name} scans neither runs nor steps`, async () => {
      const statement = allStatements().find((candidate) => candidate.name === name);
      if (statement === undefined)
        throw new Error(
          `no statement '${name}'; there are ${allStatements()
            .map((s) => s.name)
            .join(' ')}`,
        );
      // The plan for any parameters, as a long-lived connection comes to use it.
      const [row] = await database.sql.begin(async (sql) => {
        await sql.unsafe('set local plan_cache_mode = force_generic_plan');
        await sql.unsafe(`prepare "p_${name}" as ${statement.text}`);
        const parameters = await sql.unsafe<{ n: number }[]>(
          `select coalesce(array_length(parameter_types, 1), 0) as n from pg_prepared_statements where name = 'p_${name}'`,
        );
        const args = hot[name]?.length ? hot[name] : Array.from({ length: parameters[0]?.n ?? 0 }, () => 'null');
        const list = args.length === 0 ? '' : `(${args.join(', ')})`;
        const result = await sql.unsafe<{ 'QUERY PLAN': [{ Plan: Plan }] }[]>(
          `explain (format json) execute "p_${name}"${list}`,
        );
        await sql.unsafe(`deallocate "p_${name}"`);
        return result;
      });
      const scanned: string[] = [];
      const walk = (plan: Plan) => {
        if (plan['Node Type'] === 'Seq Scan' && /^(workflow_runs|step_runs)$/.test(plan['Relation Name'] ?? '')) {
          scanned.push(plan['Relation Name'] ?? '');
        }
        plan.Plans?.forEach(walk);
      };
      const plan = row?.['QUERY PLAN'];
      walk((typeof plan === 'string' ? (JSON.parse(plan) as [{ Plan: Plan }]) : (plan as [{ Plan: Plan }]))[0].Plan);
      expect(scanned).toEqual([]);
    });
  }

  it('the functions that start children and tell their parents scan neither runs nor steps', async () => {
    const workerId = '00000000-0000-7000-8000-000000000001';
    const queue = { namespace: 'default', taskQueue: 'parents', workflowTypes: ['w'] };
    await registerWorkers(db, [{ ...queue, workerId, build: '', identity: '', slots: 9, leaseMs: 30_000 }]);
    await startRuns(db, [startCommand({ taskQueue: 'parents' })]);
    const [outcome] = await claimRuns(
      db,
      { ...queue, slots: [{ workerId }] },
      { memoPageBytes: 1e6, memoPageEntries: 9 },
    );
    if (outcome?.kind !== 'claimed') throw new Error('There is nothing to claim.');
    const { runId, leaseToken } = outcome.claim.run;
    const children = Array.from({ length: 5 }, (_, index) => ({
      namespace: 'default',
      runId,
      leaseToken,
      stepId: `c${index}`,
      seq: index + 1,
      attemptNumber: 1,
      eventSeq: 1,
      uncancellable: false,
      childRunId: startIdentity('default', '').runId,
      workflowId: null,
      workflowType: 'w',
      taskQueue: 'children',
      priority: null,
      build: null,
      reusePolicy: 'ALLOW' as const,
      parentClose: 'CANCEL' as const,
      startDelayMs: 0,
      runTimeoutMs: 0,
      executionTimeoutMs: 0,
      maxLostLeases: 10,
      input: null,
    }));
    const reads = `select sum(seq_tup_read)::text as read from pg_stat_xact_user_tables where relname in ('step_runs', 'workflow_runs')`;
    const scanned = await db.transaction(async (transaction) => {
      const read = async () =>
        Number((await transaction.query<{ read: string }>({ name: 'child_reads', text: reads }, []))[0]?.read);
      const before = await read();
      expect((await startChildren(transaction, children)).map(({ kind }) => kind)).toEqual(Array(5).fill('started'));
      const childIds = children.map(({ childRunId }) => childRunId);
      await terminateRuns(
        transaction,
        childIds.map((child) => ({ namespace: 'default', runId: child, reason: '' })),
      );
      expect(await tellParents(transaction, childIds)).toMatchObject([{ runId, effect: { kind: 'arrived' } }]);
      expect(await closeChildren(transaction, [runId])).toEqual([]);
      return (await read()) - before;
    });
    expect(scanned).toBe(0);
  });

  it('plans that were made while the tables were empty do not scan them later', async () => {
    const empty = await createDatabase();
    const early = openDatabase({ url: empty.url, maxConnections: 1 });
    const workerId = id;
    const start = (count: number) =>
      startRuns(
        early,
        Array.from({ length: count }, () => startCommand()),
      );
    const claim = async (count: number) => {
      const slots = Array.from({ length: count }, () => ({ workerId }));
      const outcomes = await claimRuns(
        early,
        { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'], slots },
        { memoPageBytes: 1e6, memoPageEntries: 10 },
      );
      return outcomes.flatMap((outcome) => (outcome.kind === 'claimed' ? [outcome.claim.run] : []));
    };
    const record = (on: Database, runs: readonly { runId: string; leaseToken: number }[], n: number) =>
      recordSteps(
        on,
        runs.map(({ runId, leaseToken }) => ({
          namespace: 'default',
          runId,
          leaseToken,
          stepId: `s${n}`,
          seq: n,
          stepKind: 'FUNCTION' as const,
          attemptNumber: 1,
          countedAttempt: 1,
          maxCountedAttempts: 3,
          uncancellable: false,
          output: null,
          eventSeq: n,
        })),
      );
    await registerWorkers(early, [
      {
        workerId,
        namespace: 'default',
        taskQueue: 'q',
        workflowTypes: ['w'],
        build: '',
        identity: '',
        slots: 9,
        leaseMs: 30_000,
      },
    ]);
    await start(300);
    const runs = await claim(300);
    for (let n = 1; n <= 39; n++) await record(early, runs, n);
    // What a transaction reads is counted for it at once.
    const reads = `select sum(seq_tup_read)::text as read from pg_stat_xact_user_tables where relname in ('step_runs', 'workflow_runs')`;
    await early.transaction(async (transaction) => {
      const read = async () => {
        const [row] = await transaction.query<{ read: string }>({ name: 'reads', text: reads }, []);
        return Number(row?.read);
      };
      const before = await read();
      await record(transaction, runs, 40);
      expect((await read()) - before).toBe(0);
      // The counter does count, where a scan is all there is.
      for (const way of ['indexscan', 'indexonlyscan', 'bitmapscan']) {
        await transaction.query({ name: `without_${way}`, text: `set local enable_${way} = off` }, []);
      }
      await transaction.query({ name: 'scan', text: 'select sum(length(step_id)) from perdure.step_runs' }, []);
      expect((await read()) - before).toBeGreaterThanOrEqual(39 * 300);
    });
    // Rows that the index look-ups of one batch of 10 touch, with 12,000 steps there.
    const text = allStatements().find(({ name }) => name === 'record_steps')?.text ?? '';
    const plan = await early.query<{ 'QUERY PLAN': string }>(
      {
        name: 'explain',
        text: `explain (analyze, costs off, timing off, summary off) ${text}`,
      },
      recordParameters(runs.slice(0, 10)),
    );
    const rows = plan.flatMap((line) =>
      [...line['QUERY PLAN'].matchAll(/rows=([\d.]+)/g)].map((match) => Number(match[1])),
    );
    expect(Math.max(...rows)).toBeLessThanOrEqual(100);
    await early.close();
    await empty.drop();
  });

  it('a claim that was planned while the tables were empty looks for the suspects of its worker alone', async () => {
    const empty = await createDatabase();
    const early = openDatabase({ url: empty.url, maxConnections: 1 });
    const text = allStatements().find(({ name }) => name === 'claim_runs')?.text ?? '';
    const lines = await early.query<{ 'QUERY PLAN': string }>({ name: 'explain_claim', text: `explain ${text}` }, [
      'default',
      'q',
      '{w}',
      `{${id}}`,
      1_000,
      1_000_000,
    ]);
    const plan = lines.map((line) => line['QUERY PLAN']).join('\n');
    expect(plan).toMatch(/using workflow_runs_suspects on .*\n\s+Index Cond: \(leased_by = /);
    expect(plan).not.toContain('workflow_runs_running');
    await early.close();
    await empty.drop();
  });

  it('a lease renewal is a heap-only update and leaves a large input where it is', async () => {
    const input = { data: new Uint8Array(1_000_000).map((_, index) => index * 7), encoding: 'x' };
    const command = startCommand({ taskQueue: 'hot', input });
    const { runId } = command;
    const workerId = id;
    await startRuns(db, [command]);
    await registerWorkers(db, [
      {
        workerId,
        namespace: 'default',
        taskQueue: 'hot',
        workflowTypes: ['w'],
        build: '',
        identity: '',
        slots: 1,
        leaseMs: 30_000,
      },
    ]);
    const [claimed] = await claimRuns(
      db,
      { namespace: 'default', taskQueue: 'hot', workflowTypes: ['w'], slots: [{ workerId }] },
      { memoPageBytes: 1, memoPageEntries: 1 },
    );
    if (claimed?.kind !== 'claimed') throw new Error('not claimed');
    const toastBytes = async () =>
      (
        await database.sql<{ n: string }[]>`
        select pg_relation_size(reltoastrelid)::text as n from pg_class where oid = 'perdure.workflow_runs'::regclass`
      )[0]?.n;
    const before = await toastBytes();
    const { leaseToken } = claimed.claim.run;
    const text = `select pg_stat_get_xact_tuples_updated('perdure.workflow_runs'::regclass) as updated,
      pg_stat_get_xact_tuples_hot_updated('perdure.workflow_runs'::regclass) as hot`;
    await db.transaction(async (transaction) => {
      const counts = async () => {
        const [row] = await transaction.query<{ updated: string; hot: string }>({ name: 'stats', text }, []);
        return { updated: Number(row?.updated), hot: Number(row?.hot) };
      };
      const first = await counts();
      for (let n = 0; n < 20; n++) await renewLeases(transaction, [{ namespace: 'default', runId, leaseToken }]);
      const last = await counts();
      expect(last.updated - first.updated).toBe(20);
      expect(last.hot - first.hot).toBeGreaterThanOrEqual(18);
    });
    expect(await toastBytes()).toBe(before);
  });
});
