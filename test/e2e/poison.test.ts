import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TooManyLostLeasesError, WorkflowFailedError } from '@perdure/worker-sdk';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { perdure as cli, startProcess, type TestProcess } from '../support/processes.js';

describe('runs that end their workers, with real processes', () => {
  let perdure: TestPerdure;
  let folder: string;
  let isOver = false;
  const processes: TestProcess[] = [];
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, reclaimBackoffMs: 50, maxReclaimBackoffMs: 400 } });
    folder = mkdtempSync(join(tmpdir(), 'perdure-poison-'));
  });
  afterAll(async () => {
    isOver = true;
    await Promise.all(processes.map((worker) => worker.kill('SIGKILL')));
    await perdure.stop();
    rmSync(folder, { recursive: true });
  });

  /** As a supervisor does: another process for each one that ends. */
  const supervise = async (notes: string): Promise<void> => {
    while (!isOver) {
      const worker = startProcess('test/dist/programs/poison-worker.js', [], {
        PERDURE_ADDRESS: perdure.server.grpcAddress,
        QUEUE: 'poisoned',
        NOTES: notes,
        NODE_OPTIONS: '--max-old-space-size=64',
      });
      processes.push(worker);
      await worker.ended();
    }
  };

  it('FAIL after as many dead workers as they may have, with what is known of each; the runs beside them complete', async () => {
    const notes = join(folder, 'notes');
    const options = { taskQueue: 'poisoned' } as const;
    const neighbours = await Promise.all([1, 2, 3].map((id) => perdure.client.start('neighbour', id, options)));
    const poison = await Promise.all(
      ['exit', 'memory'].map((how) => perdure.client.start('poison', how, { ...options, maxLostLeases: 2 })),
    );
    const supervisors = [supervise(notes), supervise(notes)];
    for (const handle of poison) {
      const error = await handle.result({ timeout: '60s' }).catch((failure: unknown) => failure as WorkflowFailedError);
      expect(error).toBeInstanceOf(WorkflowFailedError);
      const { cause, category, retryable, origin, suggestedAction } = error as WorkflowFailedError;
      expect(cause).toBeInstanceOf(TooManyLostLeasesError);
      expect({ category, retryable }).toEqual({ category: 'worker-lost', retryable: false });
      expect(origin?.runId).toBe(handle.runId);
      expect(suggestedAction).toContain(`perdure run describe ${handle.runId}`);
      const { lostLeases } = cause as TooManyLostLeasesError;
      expect(lostLeases.filter(({ counted }) => counted)).toHaveLength(2);
      const pids = processes.map(({ child }) => String(child.pid));
      for (const lost of lostLeases) {
        expect(lost.build).toBe('b7');
        expect(pids).toContain(lost.workerIdentity.split(':').at(-1));
        expect(lost.lostAt.getTime()).toBeGreaterThan(lost.lastSeenAt.getTime());
      }
      // A suspect's body waits until its beginning is recorded, so that it leaves a trace. A run that was leased to a poll of a process that
      // had just ended leaves none.
      expect(lostLeases.map(({ openSteps }) => openSteps.join())).toContain('parse');
    }
    const dead = readFileSync(notes, 'utf8').trim().split('\n');
    expect(dead.length).toBeGreaterThanOrEqual(4);
    expect(new Set(dead).size).toBe(dead.length);

    writeFileSync(`${notes}.go`, '');
    const results = await Promise.all(neighbours.map((handle) => handle.result({ timeout: '30s' })));
    expect(results.map((result) => (result as number[])[0])).toEqual([1, 2, 3]);

    const env = { PERDURE_ADDRESS: perdure.server.grpcAddress };
    const described = await cli(['run', 'describe', poison[0]?.runId ?? ''], env);
    expect(described.output).toContain('category worker-lost, not retryable; reason TOO_MANY_LOST_LEASES');
    expect(described.output).toMatch(
      /lost worker: lease \d+: .*, build b7 .*; last sign of life .*; reclaimed .*; in 'parse'/,
    );
    isOver = true;
    await Promise.all(processes.map((worker) => worker.kill('SIGKILL')));
    await Promise.all(supervisors);
  });
});
