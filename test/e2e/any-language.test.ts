import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { WorkflowCancelledError, WorkflowFailedError } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { until } from '../support/until.js';

const page = readFileSync(new URL('../../docs/any-language.md', import.meta.url), 'utf8');
const hasPython = spawnSync('python3', ['--version']).status === 0;

// Whoever has only Node may run the tests too; where changes are accepted, the page is never left untried.
describe.skipIf(!hasPython && process.env.CI === undefined)('the documented worker in Python', () => {
  const taskQueue = `python-${uuid()}`;
  let perdure: TestPerdure;
  let worker: ChildProcess;
  let output = '';
  beforeAll(async () => {
    perdure = await startPerdure({ reaper: { maxSleepMs: 50 } });
    const program = /```python\n(.*?)```/s.exec(page)?.[1] ?? '';
    worker = spawn('python3', ['-c', program], {
      env: {
        PATH: process.env.PATH,
        HOME: process.env.HOME,
        PERDURE_HTTP: `http://${perdure.server.httpAddress}`,
        QUEUE: taskQueue,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [worker.stdout, worker.stderr]) stream?.on('data', (chunk) => (output += chunk));
    await once(worker, 'spawn');
  });
  afterAll(async () => {
    if (worker.exitCode === null) {
      worker.kill('SIGKILL');
      await once(worker, 'close');
    }
    await perdure.stop();
  });

  const execute = (input: unknown) => perdure.client.execute('greet', input, { taskQueue, timeout: '25s' });

  it('the worker in Python reads the input of the TypeScript client, which reads its result', async () => {
    expect(await execute({ who: 'Zoë', n: [1, 2] }), output).toEqual({ text: 'Hello Zoë', loud: 'HELLO ZOË' });
  });

  it('the worker in Python fails a run whose code raises, with the error of Python', async () => {
    const error = (await execute({ n: 1 }).catch((thrown: unknown) => thrown)) as WorkflowFailedError;
    expect(error).toBeInstanceOf(WorkflowFailedError);
    expect(error.cause.name).toBe('KeyError');
    const unread = (await execute({ who: new Date(0) }).catch((thrown: unknown) => thrown)) as WorkflowFailedError;
    expect(unread.cause.message).toContain('json/devalue');
  });

  it('the worker in Python waits for a child and for a signal, without keeping the run', async () => {
    const run = await perdure.client.start('welcome', { who: 'Ada' }, { taskQueue });
    await until(`the run to wait for its signal\n${output}`, async () => {
      const { steps } = await perdure.workflows.getHistory({ runId: run.runId });
      const isWaiting = (await run.get()).status === 'WAITING';
      return isWaiting && steps.some(({ stepId }) => stepId === 'approved');
    });
    await run.signal('approved', { by: 'Eve' });
    expect(await run.result({ timeout: '25s' }), output).toBe('Hello Ada, from Eve');
    const { runs } = await perdure.workflows.listRuns({ parentRunId: run.runId });
    expect(runs.map(({ workflowType }) => workflowType)).toEqual(['greet']);

    // Sent before the code waits for it: the call that begins the step has the signal already.
    const early = await perdure.client.signalWithStart(
      'welcome',
      { who: 'Bob' },
      'approved',
      { by: 'Eve' },
      { taskQueue, workflowId: uuid() },
    );
    expect(await early.result({ timeout: '25s' }), output).toBe('Hello Bob, from Eve');
  });

  it('the worker in Python fails when its child does, and ends when it is cancelled', async () => {
    const error = (await perdure.client
      .execute('welcome', { n: 1 }, { taskQueue, timeout: '25s' })
      .catch((thrown: unknown) => thrown)) as WorkflowFailedError;
    expect(error.cause.message, output).toContain('who');
    const run = await perdure.client.start('welcome', { who: 'Ada' }, { taskQueue });
    await until('the run to wait', async () => (await run.get()).status === 'WAITING');
    await run.cancel();
    await expect(run.result({ timeout: '25s' })).rejects.toBeInstanceOf(WorkflowCancelledError);
  });

  it('the worker in Python tolerates refused calls about a run, and refused polls', async () => {
    // The step's result is accepted; the output, which has it twice, is too large.
    await perdure.client.start('greet', { who: 'x'.repeat(1_200_000) }, { taskQueue });
    await until('the refusal', () => output.includes('output.data: must be at most'));
    const { workers } = await perdure.admin.listWorkers({ taskQueue });
    await perdure.workers.deregisterWorker({ workerId: workers[0]?.workerId ?? '' });
    expect(await execute({ who: 'you' }), output).toEqual({ text: 'Hello you', loud: 'HELLO YOU' });
    expect(worker.exitCode).toBeNull();
  });
});
