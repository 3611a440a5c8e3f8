import { RunStatus } from '@perdure/proto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { refusal, startRequest } from '../support/raw-worker.js';
import { until } from '../support/until.js';

describe('reads beside commands', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({
      server: { maxConnections: 2, maxReadConnections: 2, maxQueuedReads: 5, readTimeoutMs: 5_000 },
      reaper: false,
    });
  });
  afterAll(() => perdure.stop());

  /** Histories cannot be read meanwhile; starting and reading runs does not need them. */
  const whileHistoriesAreLocked = (work: () => Promise<void>) =>
    perdure.database.sql.begin(async (sql) => {
      await sql.unsafe('lock table perdure.step_runs in access exclusive mode');
      await work();
    });
  const reading = async () => {
    const [row] = await perdure.database.sql<{ count: number }[]>`
      select count(*)::int as count from pg_stat_activity
      where datname = current_database() and application_name = 'perdure-server-reads' and state = 'active'`;
    return row?.count ?? 0;
  };

  it('slow reads delay no command, wait in a bounded queue, and end after the read timeout', async () => {
    const { runId } = await perdure.workflows.startWorkflow(startRequest());
    await whileHistoriesAreLocked(async () => {
      const reads = Array.from({ length: 12 }, () => refusal(perdure.workflows.getHistory({ runId })));
      await until('two reads to be in PostgreSQL', async () => (await reading()) === 2);
      for (let n = 0; n < 20; n++) {
        const started = await perdure.workflows.startWorkflow(startRequest());
        const { run } = await perdure.workflows.getRun({ runId: started.runId });
        expect(run?.status).toBe(RunStatus.PENDING);
      }
      // All the while the two were in PostgreSQL.
      expect(await reading()).toBe(2);
      const reasons = (await Promise.all(reads)).map(({ reason }) => reason);
      expect(reasons.filter((reason) => reason === 'OVERLOADED')).toHaveLength(5);
      expect(reasons.filter((reason) => reason === 'INVALID_FIELD')).toHaveLength(7);
    });
    expect((await perdure.workflows.getHistory({ runId })).steps).toEqual([]);
  });
});
