import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WorkerStatus } from '@perdure/proto';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { startProcess, type TestProcess } from '../support/processes.js';
import { pollsWait } from '../support/raw-worker.js';
import { until } from '../support/until.js';

describe('workers that die, with real processes', () => {
  let perdure: TestPerdure;
  let folder: string;
  const processes: TestProcess[] = [];
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, minWorkerSilenceMs: 500 } });
    folder = mkdtempSync(join(tmpdir(), 'perdure-notes-'));
  });
  afterEach(async () => {
    await Promise.all(processes.splice(0).map((worker) => worker.kill('SIGKILL')));
  });
  afterAll(async () => {
    await perdure.stop();
    rmSync(folder, { recursive: true });
  });

  const setUp = () => {
    const taskQueue = `q-${uuid()}`;
    const file = join(folder, taskQueue);
    const startWorker = async () => {
      const worker = startProcess('test/dist/programs/note-worker.js', [], {
        PERDURE_ADDRESS: perdure.server.grpcAddress,
        QUEUE: taskQueue,
        NOTES: file,
      });
      processes.push(worker);
      await worker.says(/worker_started/);
      return worker;
    };
    const notes = (): string[] => {
      try {
        return readFileSync(file, 'utf8').trim().split('\n');
      } catch {
        // Nothing has been noted yet.
        return [];
      }
    };
    const noted = (text: string) => notes().filter((line) => line.endsWith(` ${text}`));
    const letGo = () => writeFileSync(`${file}.go`, '');
    const hold = () => rmSync(`${file}.go`);
    return { taskQueue, startWorker, notes, noted, letGo, hold };
  };

  it('the run of a killed worker continues: ended steps are not executed again, and the worker becomes OFFLINE', async () => {
    const { taskQueue, startWorker, noted } = setUp();
    const first = await startWorker();
    const handle = await perdure.client.start<undefined, number>('held', undefined, { taskQueue });
    await until('the step to be held', () => noted('hold').length === 1);
    await until('its beginning to be recorded', async () => {
      const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
      return steps.length === 2;
    });
    await first.kill('SIGKILL');
    const second = await startWorker();
    await until('the step to be held again', () => noted('hold').length === 2);
    expect(noted('before')).toHaveLength(1);
    // The body starts before its beginning is recorded.
    const attempts = await until('both attempts to be recorded', async () => {
      const answer = await perdure.workflows.listStepAttempts({ runId: handle.runId, stepId: 'hold' });
      return answer.attempts.length === 2 && answer.attempts;
    });
    expect(
      attempts.map(({ attemptNumber, isLatest, countedAttempt }) => [attemptNumber, isLatest, countedAttempt]),
    ).toEqual([
      [1, false, 1],
      [2, true, 1],
    ]);
    expect((await handle.get()).attempt).toBe(2);
    await until('the dead worker to be OFFLINE', async () => {
      const { workers } = await perdure.admin.listWorkers({ taskQueue });
      return workers.some(
        ({ status, identity }) => status === WorkerStatus.OFFLINE && identity.endsWith(`:${first.child.pid}`),
      );
    });
    await handle.terminate();
    await until('the body to be told', () => noted('aborted').length === 1);
    expect(second.child.exitCode).toBeNull();
  });

  it('the runs that a killed worker has kept in memory continue elsewhere, also one that was leased to it as it died', async () => {
    const { taskQueue, startWorker, noted } = setUp();
    const first = await startWorker();
    const handles = await Promise.all(
      Array.from({ length: 20 }, () => perdure.client.start<undefined, number>('signalled', undefined, { taskQueue })),
    );
    const suspended = () =>
      until('all runs to wait', async () => {
        const runs = await Promise.all(handles.map((handle) => handle.get()));
        return runs.every(({ status }) => status === 'WAITING');
      });
    await suspended();
    await Promise.all(handles.map((handle) => handle.signal('go')));
    await suspended();
    expect(noted('after 0')).toHaveLength(20);
    // Its polls are not over before the server notices: some runs are leased to a process that is no more.
    const sent = handles.map((handle, n) => {
      if (n === 10) first.child.kill('SIGKILL');
      return handle.signal('go');
    });
    await Promise.all(sent);
    const second = await startWorker();
    const pids = await Promise.all(handles.map((handle) => handle.result({ timeout: '25s' })));
    expect(new Set([...pids, first.child.pid, second.child.pid]).size).toBe(2);
    expect(noted('after 0')).toHaveLength(20);
    const { attempt } = await (handles[19] as (typeof handles)[number]).get();
    expect(attempt).toBeLessThanOrEqual(2);
  });

  it('a worker that a Ctrl-C reaches twice, from the terminal and from npm, lets its runs end', async () => {
    const { taskQueue, startWorker, noted, letGo } = setUp();
    const worker = await startWorker();
    const handle = await perdure.client.start<undefined, number>('held', undefined, { taskQueue });
    await until('the step to be held', () => noted('hold').length === 1);
    // Two of the same kind may reach the process as one.
    worker.child.kill('SIGINT');
    worker.child.kill('SIGTERM');
    await worker.says(/worker_draining/);
    letGo();
    expect(await worker.ended()).toBe(0);
    expect(noted('aborted')).toEqual([]);
    expect(await handle.result({ timeout: '20s' })).toBe(worker.child.pid);
  });

  it('a zombie that wakes past its lease changes nothing and its body is aborted', async () => {
    const { taskQueue, startWorker, noted, letGo, hold } = setUp();
    const zombie = await startWorker();
    const handle = await perdure.client.start<undefined, number>('held', undefined, { taskQueue });
    await until('the step to be held', () => noted('hold').length === 1);
    zombie.child.kill('SIGSTOP');
    const heir = await startWorker();
    await until('the heir to hold the step', () => noted('hold').length === 2);
    letGo();
    expect(await handle.result({ timeout: '20s' })).toBe(heir.child.pid);
    // What the zombie has begun stays unfinished.
    hold();
    const before = await perdure.workflows.getHistory({ runId: handle.runId, includePayloads: true });
    const runBefore = await perdure.workflows.getRun({ runId: handle.runId });
    zombie.child.kill('SIGCONT');
    await until('the zombie to find out', () => zombie.output().includes('lease_lost'));
    await until('its body to be aborted', () => noted('aborted').length >= 1);
    // It is a worker again: it takes up the next run, and has got over the earlier one by then.
    await heir.kill('SIGKILL');
    expect(await perdure.client.execute<number, number>('five', 1, { taskQueue, timeout: '20s' })).toBe(10);
    expect(await perdure.workflows.getHistory({ runId: handle.runId, includePayloads: true })).toEqual(before);
    expect(await perdure.workflows.getRun({ runId: handle.runId })).toEqual(runBefore);
    expect(noted('after').every((line) => line.startsWith(`${heir.child.pid} `))).toBe(true);
  });

  it('a zombie that was stopped between steps begins no further body', async () => {
    const { taskQueue, startWorker, notes, letGo } = setUp();
    const zombie = await startWorker();
    const handle = await perdure.client.start<undefined, number>('many', undefined, { taskQueue });
    await until('some steps', () => notes().length > 50);
    zombie.child.kill('SIGSTOP');
    letGo();
    const heir = await startWorker();
    expect(await handle.result({ timeout: '25s' })).toBe(heir.child.pid);
    const before = notes().length;
    zombie.child.kill('SIGCONT');
    await until('the zombie to find out', () => zombie.output().includes('lease_lost'));
    // It works through what it has before it gets to this.
    await heir.kill('SIGKILL');
    expect(await perdure.client.execute<number, number>('five', 1, { taskQueue, timeout: '20s' })).toBe(10);
    expect(notes()).toHaveLength(before + 5);
  }, 60_000);

  it('a worker that was stopped while it waited for runs begins none that ended meanwhile', async () => {
    const { taskQueue, startWorker, notes, noted } = setUp();
    const zombie = await startWorker();
    await pollsWait(perdure, taskQueue);
    zombie.child.kill('SIGSTOP');
    const handle = await perdure.client.start<number, number>('five', 1, { taskQueue });
    await until('the run to be leased to the zombie', async () => (await handle.get()).status === 'RUNNING');
    const heir = await startWorker();
    expect(await handle.result({ timeout: '20s' })).toBe(10);
    const before = notes();
    zombie.child.kill('SIGCONT');
    await heir.kill('SIGKILL');
    // It works through what had come before it gets to this.
    expect(await perdure.client.execute<number, number>('five', 2, { taskQueue, timeout: '20s' })).toBe(10);
    expect(notes().filter((line) => line.includes(' 1 '))).toEqual(before);
    expect(noted('2 s0')).toHaveLength(1);
  }, 60_000);

  it('a worker whose connection is closed under it ends with an error that says so, and leaves the process alive', async () => {
    const program = startProcess('test/dist/programs/closed-connection.js', [], {
      PERDURE_ADDRESS: perdure.server.grpcAddress,
      QUEUE: `q-${uuid()}`,
    });
    processes.push(program);
    await program.says(/the worker ended: The connection of the worker was closed while the worker was running/);
    const before = program.output().length;
    await until('timers to go on', () => program.output().slice(before).includes('still turning'));
    program.child.kill('SIGTERM');
    expect(await program.ended()).toBe(0);
    expect(program.output()).toContain('told to go');
  });

  it('SIGTERM drains: the run finishes, the process ends with 0, nothing is lost', async () => {
    const { taskQueue, startWorker, noted, letGo } = setUp();
    const worker = await startWorker();
    const handle = await perdure.client.start<undefined, number>('held', undefined, { taskQueue });
    await until('the step to be held', () => noted('hold').length === 1);
    worker.child.kill('SIGTERM');
    await worker.says(/worker_draining/);
    letGo();
    expect(await worker.ended()).toBe(0);
    expect((await handle.get()).status).toBe('COMPLETED');
  });

  it('workers killed in turn: every run completes, each step body is executed at most once more than workers died', async () => {
    const { taskQueue, startWorker, notes, letGo } = setUp();
    const runs = 60;
    let worker = await startWorker();
    const starts = Array.from({ length: runs }, (_, n) => ({ input: n - 1, options: { taskQueue } }));
    const handles = await perdure.client.startMany<number, number>('five', starts);
    let ended = 0;
    const results = Promise.all(
      handles.map(async (handle) => {
        if (!('result' in handle)) throw handle;
        const result = await handle.result({ timeout: '80s' });
        ended++;
        return result;
      }),
    );
    // One run does not come to its end before the last worker was killed.
    const kills = 4;
    for (let n = 0; n < kills; n++) {
      const before = notes().length;
      await until('progress', () => notes().length > before + 20 || ended === runs - 1, 30_000);
      await worker.kill('SIGKILL');
      worker = await startWorker();
    }
    letGo();
    expect(await results).toEqual(Array.from({ length: runs }, () => 10));
    const executions = new Map<string, number>();
    for (const line of notes()) {
      const body = line.slice(line.indexOf(' ') + 1);
      executions.set(body, (executions.get(body) ?? 0) + 1);
    }
    expect(executions.size).toBe(runs * 5);
    expect(Math.max(...executions.values())).toBeLessThanOrEqual(1 + kills);
    // Attempts are without gaps, and exactly one is the latest and COMPLETED.
    const rows = await perdure.database.sql<{ bad: number }[]>`
      select count(*)::int as bad from (
        select run_id, step_id from perdure.step_runs group by run_id, step_id
        having max(attempt_number) <> count(*) or count(*) filter (where is_latest) <> 1 or count(*) filter (where status = 'COMPLETED') > 1
      ) broken`;
    expect(rows[0]?.bad).toBe(0);
  }, 180_000);
});
