import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { freePort, startPerdureProcess, startProcess, type TestProcess } from '../support/processes.js';
import { until } from '../support/until.js';

/** Runs of each chain, and the runs at which a process is killed. */
const RUNS = 40;
const KILLS = [5, 12, 19, 26, 33];

describe('chains of runs, with real processes', { timeout: 120_000 }, () => {
  let perdure: TestPerdure;
  let folder: string;
  const processes: TestProcess[] = [];
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, minWorkerSilenceMs: 500 } });
    folder = mkdtempSync(join(tmpdir(), 'perdure-chains-'));
  });
  afterEach(async () => {
    await Promise.all(processes.splice(0).map((each) => each.kill('SIGKILL')));
  });
  afterAll(async () => {
    await perdure.stop();
    rmSync(folder, { recursive: true });
  });

  const setUp = () => {
    const taskQueue = `q-${uuid()}`;
    const file = join(folder, taskQueue);
    const startWorker = async (address: string) => {
      const env = { PERDURE_ADDRESS: address, QUEUE: taskQueue, NOTES: file };
      const worker = startProcess('test/dist/programs/note-worker.js', [], env);
      processes.push(worker);
      await worker.says(/worker_started/);
      return worker;
    };
    /** Number of the run and idempotency key of each execution. */
    const charges = (): (readonly [n: number, key: string])[] => {
      try {
        const lines = readFileSync(file, 'utf8').trim().split('\n');
        return lines.map((line) => line.split(' ')).map(([, , n, key]) => [Number(n), key ?? '']);
      } catch {
        // Nothing has been noted yet.
        return [];
      }
    };
    const reaches = (n: number) => until(`run ${n} of the chain`, () => charges().some(([of]) => of >= n));
    return { taskQueue, startWorker, charges, reaches };
  };

  /** Every run has one successor, every step one result, and no run is charged under two keys. */
  const expectWhole = async (workflowId: string, firstRunId: string, charges: (readonly [number, string])[]) => {
    const runs = await perdure.database.sql<
      { run_id: string; origin: string | null; next: string | null; first: string }[]
    >`
      select run_id, origin_run_id as origin, next_run_id as next, coalesce(first_run_id, run_id) as first
      from perdure.workflow_runs where workflow_id = ${workflowId}`;
    expect(runs).toHaveLength(RUNS + 1);
    const byId = new Map(runs.map((run) => [run.run_id, run]));
    let [runId, length] = [firstRunId, 1];
    for (let next = byId.get(runId)?.next; next; next = byId.get(runId)?.next, length++) {
      expect(byId.get(next)).toMatchObject({ origin: runId, first: firstRunId });
      runId = next;
    }
    expect(length).toBe(RUNS + 1);
    const [steps] = await perdure.database.sql<{ ended: number }[]>`
      select count(*)::int as ended from perdure.step_runs s join perdure.workflow_runs r on r.run_id = s.run_id
      where r.workflow_id = ${workflowId} and s.status = 'COMPLETED'`;
    expect(steps?.ended).toBe(RUNS + 1);
    expect(new Set(charges.map(([n]) => n)).size).toBe(RUNS + 1);
    expect(new Set(charges.map(([, key]) => key)).size).toBe(RUNS + 1);
  };

  it('workers are killed while runs continue as others: every run has one successor and is charged under one key', async () => {
    const { taskQueue, startWorker, charges, reaches } = setUp();
    const address = perdure.server.grpcAddress;
    let worker = await startWorker(address);
    const workflowId = uuid();
    const handle = await perdure.client.start<{ n: number; until: number }, number>(
      'chain',
      { n: 0, until: RUNS },
      { taskQueue, workflowId },
    );
    for (const n of KILLS) {
      await reaches(n);
      await worker.kill('SIGKILL');
      worker = await startWorker(address);
    }
    expect(await handle.result({ timeout: '60s' })).toBe(RUNS);
    await expectWhole(workflowId, handle.runId, charges());
  });

  it('servers are killed while runs continue as others: a repeat finds the successor of the first call', async () => {
    const { taskQueue, startWorker, charges, reaches } = setUp();
    const [grpcPort, httpPort] = [await freePort(), await freePort()];
    const startServer = async () => {
      const ports = ['--grpc-port', String(grpcPort), '--http-port', String(httpPort)];
      const server = startPerdureProcess(['server', ...ports], { DATABASE_URL: perdure.database.url });
      processes.push(server);
      await server.says(/server_started/);
      return server;
    };
    let server = await startServer();
    await startWorker(`127.0.0.1:${grpcPort}`);
    const workflowId = uuid();
    const handle = await perdure.client.start<{ n: number; until: number }, number>(
      'chain',
      { n: 0, until: RUNS },
      { taskQueue, workflowId },
    );
    for (const n of KILLS) {
      await reaches(n);
      await server.kill('SIGKILL');
      server = await startServer();
    }
    expect(await handle.result({ timeout: '60s' })).toBe(RUNS);
    await expectWhole(workflowId, handle.runId, charges());
  });
});
