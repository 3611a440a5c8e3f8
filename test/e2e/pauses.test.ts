import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { workflow } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { startProcess, type TestProcess } from '../support/processes.js';
import { pollsWait } from '../support/raw-worker.js';
import { CLOCK_MOVING_REAPER, endSleep } from '../support/sleepers.js';
import { until } from '../support/until.js';

const CLI = fileURLToPath(new URL('../../packages/cli/bin/perdure.js', import.meta.url));

/** What a command of a process of its own has printed, on both streams. */
async function command({ server }: TestPerdure, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [CLI, '--address', server.grpcAddress, ...args],
    { env: { ...process.env, NO_COLOR: '1', COLUMNS: '200' } },
  ).catch((error: { stdout: string; stderr: string }) => error);
  return stdout + stderr;
}

describe('pauses, with real processes', { timeout: 120_000 }, () => {
  let perdure: TestPerdure;
  let folder: string;
  const processes: TestProcess[] = [];
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50, minWorkerSilenceMs: 500 } });
    folder = mkdtempSync(join(tmpdir(), 'perdure-pauses-'));
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
      const env = { PERDURE_ADDRESS: perdure.server.grpcAddress, QUEUE: taskQueue, NOTES: file };
      const worker = startProcess('test/dist/programs/note-worker.js', [], env);
      processes.push(worker);
      await worker.says(/worker_started/);
      return worker;
    };
    const noted = (text: string) => {
      try {
        const lines = readFileSync(file, 'utf8').trim().split('\n');
        return lines.filter((line) => line.endsWith(` ${text}`));
      } catch {
        // Nothing has been noted yet.
        return [];
      }
    };
    return { taskQueue, startWorker, noted, letGo: () => writeFileSync(`${file}.go`, '') };
  };
  const held = async (taskQueue: string) => {
    const handle = await perdure.client.start<undefined, number>('held', undefined, { taskQueue });
    await until('the beginning of the long step to be recorded', async () => {
      const { steps } = await perdure.workflows.getHistory({ runId: handle.runId });
      return steps.length === 2;
    });
    return handle;
  };

  it('a long body ends and is recorded while its run is paused; nothing new starts until the resume, also on another worker', async () => {
    const { taskQueue, startWorker, noted, letGo } = setUp();
    const first = await startWorker();
    const { runId, result } = await held(taskQueue).then((handle) => ({
      runId: handle.runId,
      result: () => handle.result({ timeout: '30s' }),
    }));
    expect(await command(perdure, 'run', 'pause', runId, '--reason', 'deploy')).toMatch(
      /RUNNING \(paused when what is under way has ended\)/,
    );
    letGo();
    await until('the run to be given back', async () => {
      const { run } = await perdure.workflows.getRun({ runId });
      return run?.leasedBy === '';
    });
    expect(noted('held')).toHaveLength(1);
    await startWorker();
    await pollsWait(perdure, taskQueue);
    expect(noted('after')).toHaveLength(0);
    expect(await command(perdure, 'run', 'list', '--status', 'paused', '-q', taskQueue)).toContain(runId);
    const described = await command(perdure, 'run', 'describe', runId);
    expect(described).toMatch(/paused .*@.*: deploy/);
    expect(described).toContain(`perdure run resume ${runId}`);
    expect(await command(perdure, 'doctor')).toMatch(new RegExp(`Paused: 1 run of 'held' \\(last ${runId}: .*deploy`));
    expect(await command(perdure, 'run', 'resume', runId)).toContain('PENDING');
    expect(await result()).toBe(first.child.pid);
    expect(noted('hold')).toHaveLength(1);
    expect(noted('after')).toHaveLength(1);
    expect(await command(perdure, 'run', 'history', runId)).toMatch(/Paused .*@.*: deploy; resumed .* by .*@/);
  });

  it('a worker that is killed while its run is paused: the run is reclaimed, stays paused, and continues after the resume', async () => {
    const { taskQueue, startWorker, noted, letGo } = setUp();
    const first = await startWorker();
    const handle = await held(taskQueue);
    await handle.pause();
    await first.kill('SIGKILL');
    const second = await startWorker();
    await until('the run to be reclaimed', async () => (await handle.get()).status === 'PAUSED');
    await pollsWait(perdure, taskQueue);
    expect(noted('hold')).toHaveLength(1);
    letGo();
    await handle.resume();
    expect(await handle.result({ timeout: '30s' })).toBe(second.child.pid);
    expect(noted('before')).toHaveLength(1);
    expect(noted('hold')).toHaveLength(2);
  });

  it('the queue and the type of a deploy: both are paused, listed, explained and resumed from the command line', async () => {
    const { taskQueue, startWorker, letGo } = setUp();
    letGo();
    await startWorker();
    expect(await command(perdure, 'queue', 'pause', taskQueue, '-r', 'move')).toContain('is paused.');
    expect(await command(perdure, 'queue', 'pause', taskQueue)).toContain('was paused already.');
    expect(await command(perdure, 'workflow', 'pause', 'held', '-r', 'bug')).toContain('is paused.');
    const handle = await perdure.client.start<undefined, number>('held', undefined, { taskQueue });
    expect(await command(perdure, 'queue', 'list')).toMatch(new RegExp(`${taskQueue} .* by .*: move`));
    expect(await command(perdure, 'workflow', 'list')).toMatch(/held .*@.* bug/);
    expect(await command(perdure, 'run', 'describe', handle.runId)).toMatch(
      new RegExp(`Its task queue '${taskQueue}' was paused .* by .*move`),
    );
    expect(await command(perdure, 'doctor')).toMatch(/Paused: task queue '.*' .*move.*; workflow type 'held' .*bug/);
    expect(await command(perdure, 'queue', 'resume', taskQueue)).toContain('is resumed.');
    expect(await command(perdure, 'run', 'describe', handle.runId)).toMatch(/Its workflow type 'held' was paused/);
    expect((await handle.get()).startedAt).toBeUndefined();
    expect(await command(perdure, 'workflow', 'resume', 'held')).toContain('is resumed.');
    expect(await command(perdure, 'workflow', 'resume', 'held')).toContain('was not paused.');
    expect(await handle.result({ timeout: '30s' })).toBeGreaterThan(0);
  });
});

describe('runs that are held', { timeout: 120_000 }, () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: CLOCK_MOVING_REAPER });
  });
  afterAll(() => perdure.stop());

  it('one command resumes all of them, of one type or of all, when the code fits again', async () => {
    let version = 1;
    const changing = (name: string) =>
      workflow(name, async (ctx) => {
        await ctx.step(version === 1 ? 'charge' : 'charge card', () => 1);
        await ctx.sleep('nap', '20d');
        return 'done';
      });
    const [a, b] = [changing('a'), changing('b')];
    await perdure.startWorker({ taskQueue: 'q', workflows: [a, b], warmRuns: 0 });
    const handles = await Promise.all([a, a, b].map((of) => perdure.client.start(of, { taskQueue: 'q' })));
    await until('all to sleep', async () => {
      const statuses = await Promise.all(handles.map(async (handle) => (await handle.get()).status));
      return statuses.every((status) => status === 'SLEEPING');
    });
    version = 2;
    await endSleep(perdure, ...handles.map(({ runId }) => runId));
    const isHeld = async () => {
      const { runs } = await perdure.workflows.listRuns({ held: true });
      return runs.length === 3;
    };
    await until('all to be held', isHeld);
    const [first] = handles;
    const described = await command(perdure, 'run', 'describe', first?.runId ?? '');
    expect(described).toMatch(/held because\s+NonDeterminismError: Position 1 was recorded as step 'charge'/);
    expect(described).toMatch(/The code is at .*pauses\.test/);
    expect(described).toContain("perdure run resume --held -t 'a'");
    expect(await command(perdure, 'run', 'list', '--held', '-t', 'b')).toContain(handles[2]?.runId ?? '');
    expect(await command(perdure, 'doctor')).toMatch(/3 runs held, .*2 of 'a' .*1 of 'b' .*perdure run resume --held/);
    expect(await command(perdure, 'run', 'resume', '--held', 'x')).toContain('Give either run ids or --held.');
    expect(await command(perdure, 'run', 'resume')).toContain('Give run ids, or --held');
    expect(await command(perdure, 'run', 'resume', 'x', '-t', 'a')).toContain('add --held');
    version = 1;
    expect(await command(perdure, 'run', 'resume', '--held', '-t', 'a')).toContain('Resuming 2 runs.');
    expect(await handles[0]?.result({ timeout: '30s' })).toBe('done');
    expect(await command(perdure, 'run', 'resume', '--held')).toContain('Resuming 1 run.');
    expect(await Promise.all(handles.map((handle) => handle.result({ timeout: '30s' })))).toEqual([
      'done',
      'done',
      'done',
    ]);
    expect(await command(perdure, 'run', 'resume', '--held')).toContain('No run is held.');
  });
});
