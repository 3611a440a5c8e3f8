import { type Database, openDatabase, type StartRun, startRuns } from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { startCommand } from '../support/store.js';

describe('starts that share workflow ids', () => {
  let database: TestDatabase;
  let statements = 0;
  let db: Database;
  let other: Database;
  beforeAll(async () => {
    database = await createDatabase();
    const opened = openDatabase({ url: database.url });
    db = {
      ...opened,
      query: (...parameters) => {
        statements++;
        return opened.query(...parameters);
      },
    } as Database;
    other = openDatabase({ url: database.url });
  });
  afterAll(async () => {
    await Promise.all([db.close(), other.close()]);
    await database.drop();
  });

  const startOf = (workflowId: string, more: Partial<StartRun> = {}) => startCommand({ workflowId, ...more });

  it('any number of starts of a batch that share a workflow id cost two statements and get one run', async () => {
    const starts = Array.from({ length: 500 }, () => startOf('hot'));
    statements = 0;
    const outcomes = await startRuns(db, starts);
    expect(statements).toBe(2);
    const [first] = starts;
    expect(outcomes[0]).toMatchObject({ kind: 'started', runId: first?.runId });
    expect(outcomes.slice(1)).toEqual(
      starts.slice(1).map(() => ({ kind: 'existing', runId: first?.runId, workflowId: 'hot', status: 'PENDING' })),
    );
  });

  it('a repeat gets its own run and an unequal start is refused, also behind an equal id in the same batch', async () => {
    const ended = startOf('reused');
    await startRuns(db, [ended]);
    await database.sql`update perdure.workflow_runs set status = 'TERMINATED', finished_at = now(), available_at = null,
      cancel_requested_at = now() where run_id = ${ended.runId}`;
    const next = startOf('reused');
    const outcomes = await startRuns(db, [next, ended, startOf('reused', { workflowType: 'another' }), next]);
    expect(outcomes).toEqual([
      { kind: 'started', runId: next.runId, delayed: false, claim: null },
      { kind: 'existing', runId: ended.runId, workflowId: 'reused', status: 'TERMINATED' },
      { kind: 'already_exists', runId: next.runId, status: 'PENDING' },
      { kind: 'existing', runId: next.runId, workflowId: 'reused', status: 'PENDING' },
    ]);
  });

  it('servers that start the same ids in different order never wait for each other in a circle', async () => {
    const deadlocks = async () => {
      await database.sql`select pg_stat_force_next_flush()`.catch(() => undefined);
      const [row] = await database.sql<{ deadlocks: number }[]>`
        select deadlocks::int from pg_stat_database where datname = current_database()`;
      return row?.deadlocks ?? 0;
    };
    const before = await deadlocks();
    for (let round = 0; round < 10; round++) {
      const ids = Array.from({ length: 300 }, (_, n) => `shared-${round}-${n}`);
      const [forth, back] = await Promise.all([
        startRuns(
          db,
          ids.map((id) => startOf(id)),
        ),
        startRuns(
          other,
          ids.toReversed().map((id) => startOf(id)),
        ),
      ]);
      const started = [...(forth ?? []), ...(back ?? [])].filter(({ kind }) => kind === 'started');
      expect(started).toHaveLength(300);
    }
    expect(await deadlocks()).toBe(before);
  });
});
