import {
  claimRuns,
  type LeaseRef,
  migrate,
  openDatabase,
  registerWorkers,
  sendSignals,
  wakeSleepers,
} from '@perdure/store';
import postgres from 'postgres';
import { v7 as uuid } from 'uuid';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { MIGRATIONS } from '../../packages/store/dist/schema/migrations/index.js';
import { urlOf } from '../support/database-url.js';

const RUNS = 500;

/** Databases that an earlier version has filled. */
describe('migrations', () => {
  let admin: postgres.Sql;
  let sql: postgres.Sql;
  let name: string;
  let url: string;
  beforeEach(async () => {
    admin = postgres(inject('adminUrl'), { max: 1, onnotice: () => undefined });
    name = `perdure_old_${uuid().replaceAll('-', '')}`;
    await admin.unsafe(`create database ${name}`);
    url = urlOf(inject('adminUrl'), name);
    sql = postgres(url, { max: 10, onnotice: () => undefined });
  });
  afterEach(async () => {
    await sql.end();
    await admin.unsafe(`drop database ${name} with (force)`);
    await admin.end();
  });

  /** What the first version wrote: ended runs, sleeping ones with a timer and a recorded step, and claimable ones. */
  const fill = async () => {
    const core = MIGRATIONS[0];
    await sql.unsafe(`create schema perdure;
      create table perdure.schema_migrations (
        version integer primary key, name text not null, applied_at timestamptz not null default statement_timestamp());
      ${core?.sql};
      insert into perdure.schema_migrations (version, name) values (1, 'core');
      insert into perdure.workflow_runs (run_id, created_at, updated_at, started_at, available_at, wake_at, finished_at, lease_token,
        max_lost_leases, status, yield_reason, namespace, workflow_id, workflow_type, task_queue, waits)
      select gen_random_uuid(), now(), now(), now(),
        case when n % 3 = 0 then now() end, case when n % 3 = 1 then now() - interval '1 s' end,
        case when n % 3 = 2 then now() end, 1, 5,
        (array['PENDING', 'SLEEPING', 'COMPLETED'])[n % 3 + 1], 'SUSPEND', 'default', 'w' || n, 'w', 'q',
        case when n % 3 = 1 then '[{"step": "nap", "kind": "TIMER"}]'::jsonb end
      from generate_series(0, ${RUNS - 1}) as n;
      insert into perdure.step_runs (run_id, started_at, finished_at, seq, attempt_number, counted_attempt, lease_token, event_seq, kind,
        status, step_id, output, output_encoding)
      select run_id, now(), now(), 1, 1, 1, 1, 1, 'FUNCTION', 'COMPLETED', 'first', '1', 'json' from perdure.workflow_runs;
      insert into perdure.step_runs (run_id, started_at, fires_at, seq, attempt_number, counted_attempt, lease_token, kind, status, step_id)
      select run_id, now(), now() - interval '1 s', 2, 1, 1, 1, 'SLEEP', 'RUNNING', 'nap'
      from perdure.workflow_runs where status = 'SLEEPING';`);
  };

  it('what the first version has written continues: timers fire, memos are replayed in their order, runs take signals', async () => {
    await fill();
    expect(await migrate({ url })).toMatchObject({ from: 1, to: MIGRATIONS.at(-1)?.version });
    const db = openDatabase({ url });
    const sleeping = RUNS - Math.ceil(RUNS / 3) - Math.floor(RUNS / 3);
    expect(await wakeSleepers(db, { limit: RUNS })).toMatchObject({ woken: sleeping });
    const workerId = uuid();
    const queue = { namespace: 'default', taskQueue: 'q', workflowTypes: ['w'] };
    await registerWorkers(db, [{ ...queue, workerId, build: '', identity: '', slots: RUNS, leaseMs: 30_000 }]);
    const slots = Array.from({ length: RUNS }, () => ({ workerId }));
    const claims = await claimRuns(db, { ...queue, slots }, { memoPageBytes: 1e6, memoPageEntries: 10 });
    const claimed = claims.flatMap((outcome) => (outcome.kind === 'claimed' ? [outcome.claim] : []));
    expect(claimed).toHaveLength(sleeping + Math.ceil(RUNS / 3));
    const orders = claimed.map(({ memo }) => memo.map(({ stepId, eventSeq }) => `${stepId} ${eventSeq}`).join());
    expect(new Set(orders)).toEqual(new Set(['first 1,nap 1', 'first 1']));
    const runs: LeaseRef[] = claimed.map(({ run }) => run);
    const sent = await sendSignals(
      db,
      runs.map(({ namespace, runId }) => ({
        namespace,
        runId,
        name: 'go',
        payload: null,
        requestId: null,
        sender: '',
        maxUnconsumed: 9,
      })),
    );
    expect(new Set(sent.map(({ kind }) => kind))).toEqual(new Set(['sent']));
    await db.close();
  });

  it('a migration gets its locks beside statements that hold them in any order, and nothing of theirs is lost', async () => {
    await fill();
    let isMigrated = false;
    let committed = 0;
    const atWork = async (first: string, second: string) => {
      while (!isMigrated) {
        await sql
          .begin(async (transaction) => {
            await transaction.unsafe(first);
            await transaction.unsafe(second);
          })
          .then(
            () => committed++,
            (error: { code?: string }) => {
              // The other one of a deadlock.
              if (error.code !== '40P01') throw error;
            },
          );
      }
    };
    const runs = `update perdure.workflow_runs set lost_leases = lost_leases + 1 where workflow_id = 'w0'`;
    const steps = `update perdure.step_runs set max_counted_attempts = max_counted_attempts + 1
      where step_id = 'first' and run_id = (select run_id from perdure.workflow_runs where workflow_id = 'w0')`;
    const work = Promise.all([atWork(runs, steps), atWork(steps, runs)]);
    const result = await migrate({ url }).finally(() => {
      isMigrated = true;
    });
    await work;
    expect(result).toMatchObject({ from: 1, to: MIGRATIONS.at(-1)?.version });
    const [row] = await sql`
      select r.lost_leases, s.max_counted_attempts from perdure.workflow_runs r
      join perdure.step_runs s on s.run_id = r.run_id where r.workflow_id = 'w0'`;
    expect(row).toEqual({ lost_leases: committed, max_counted_attempts: committed });
    expect((await sql`select count(*)::int as n from perdure.workflow_runs`)[0]?.n).toBe(RUNS);
  });
});
