import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';

const RUN = '00000000-0000-7000-8000-000000000001';

/** Each breaks one rule of a row that is valid otherwise. */
const RUN_BREAKS = [
  "status = 'STUCK'",
  "yield_reason = 'BOREDOM'",
  'available_at = null',
  'leased_by = gen_random_uuid()',
  'lease_expires_at = now()',
  "status = 'RUNNING', available_at = null",
  "status = 'RUNNING', available_at = null, leased_by = gen_random_uuid(), lease_expires_at = now(), lease_token = 0",
  "status = 'SLEEPING', available_at = null",
  'wake_at = now()',
  "waits = '[]'",
  'finished_at = now()',
  "status = 'COMPLETED', available_at = null",
  "output = ''",
  "status = 'FAILED', available_at = null, finished_at = now()",
  "status = 'COMPLETED', available_at = null, finished_at = now(), failure = '{}'",
  "status = 'CONTINUED', available_at = null, finished_at = now()",
  'next_run_id = gen_random_uuid()',
  "compensation = 'HALF'",
  "status = 'CANCELLED', available_at = null, finished_at = now(), compensation = 'COMPENSATING'",
  'parent_run_id = gen_random_uuid()',
  "parent_run_id = gen_random_uuid(), parent_close = 'IGNORE'",
  'origin_run_id = gen_random_uuid()',
  "origin_run_id = gen_random_uuid(), origin_kind = 'GUESS'",
];
const STEP_BREAKS = [
  "status = 'STUCK'",
  "kind = 'DANCE'",
  'finished_at = now()',
  'is_latest = false',
  "status = 'COMPLETED', finished_at = now(), is_latest = false",
  'is_cut = true',
  'is_arrived = true',
  "status = 'COMPLETED', finished_at = now(), deadline_at = now()",
  'next_retry_at = now()',
  "output = ''",
  "status = 'FAILED', finished_at = now()",
  "kind = 'SLEEP'",
  'fires_at = now()',
];

describe('a row that breaks a rule is refused by the database', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
    await database.sql`
      insert into perdure.workflow_runs (run_id, namespace, workflow_id, workflow_type, task_queue, status, available_at, created_at,
        updated_at, max_lost_leases)
      values (${RUN}, 'default', 'a', 'a', 'a', 'PENDING', now(), now(), now(), 1)`;
    await database.sql`
      insert into perdure.step_runs (run_id, step_id, attempt_number, seq, kind, status, counted_attempt, lease_token, started_at)
      values (${RUN}, 'a', 1, 1, 'FUNCTION', 'RUNNING', 1, 1, now())`;
  });
  afterAll(() => database.drop());

  for (const [table, breaks] of Object.entries({ workflow_runs: RUN_BREAKS, step_runs: STEP_BREAKS })) {
    for (const change of breaks) {
      it(`${table}: ${change}`, async () => {
        const changed = database.sql.unsafe(`update perdure.${table} set ${change} where run_id = '${RUN}'`);
        await expect(changed).rejects.toMatchObject({ code: '23514' });
      });
    }
  }
});
