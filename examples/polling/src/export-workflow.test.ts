import { RetryBudgetError, RunTimeoutError, TerminalError, type WorkflowFailedError } from 'perdure';
import { createTestEnvironment, expectHistory, type TestEnvironment } from 'perdure/testing';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { type ExportApi, startExportApi, TOTAL } from './export-api.js';
import { exportWorkflow } from './export-workflow.js';

const download = exportWorkflow({ timeout: '1s', silence: '300ms' });

let env: TestEnvironment;
let api: ExportApi;
beforeAll(async () => {
  env = await createTestEnvironment();
});
afterAll(() => env.close());
beforeEach(async () => {
  api = await startExportApi();
});
afterEach(() => api[Symbol.asyncDispose]());

const asked = (request: string) => api.requests.filter((line) => line.startsWith(`${request} `));
const failing = async (run: Promise<unknown>) =>
  run.then(
    () => undefined,
    (error: unknown) => error as WorkflowFailedError,
  );

it('waits for hours in between, and for as long as the API says when it is overloaded', async () => {
  api.trouble('GET /exports/1', 'overloaded');
  const began = await env.now();
  const run = await env.start(download, api.url);
  expect(await run.result()).toEqual({ pages: 5, total: TOTAL });
  expect((await env.now()).getTime() - began.getTime()).toBeGreaterThanOrEqual((3 * 3_600 + 120) * 1_000);
  await expectHistory(run).toMatch([
    'order',
    { step: 'ask', attempts: 2 },
    { step: 'wait', kind: 'sleep' },
    'ask#2',
    { step: 'wait#2', kind: 'sleep' },
    'ask#3',
    { step: 'wait#3', kind: 'sleep' },
    'ask#4',
    { step: 'download', attempts: 1 },
  ]);
});

it('continues a download where it has stopped: no page is read again that was reported', async () => {
  api.trouble('GET /exports/1/pages/3', 'down');
  api.trouble('GET /exports/1/pages/4', 'hangs');
  const run = await env.start(download, api.url);
  expect(await run.result()).toEqual({ pages: 5, total: TOTAL });
  expect([1, 2, 3, 4, 5].map((page) => asked(`GET /exports/1/pages/${page}`).length)).toEqual([1, 1, 2, 2, 1]);
  await expectHistory(run).toContain([{ step: 'download', attempts: 3 }]);
});

it('orders one export, although the API does not answer the first time', async () => {
  api.trouble('POST /exports', 'hangs');
  const run = await env.start(download, api.url);
  await run.result();
  await expectHistory(run).toContain([{ step: 'order', attempts: 2, output: { id: '1' } }]);
});

it('gives up at once what the API refuses', async () => {
  api.trouble('GET /exports/1', 'gone');
  const error = await failing(env.run(download, api.url));
  expect(error?.cause).toBeInstanceOf(TerminalError);
  expect(error).toMatchObject({
    category: 'application',
    retryable: false,
    origin: { stepId: 'ask', attempt: 1 },
    cause: { code: 'HTTP_410' },
  });
  expect(asked('GET /exports/1')).toHaveLength(1);
});

it('gives up when its retries are used, and when its time is over', async () => {
  api.trouble('GET /exports/1', ...Array.from({ length: 9 }, () => 'overloaded' as const));
  api.trouble('GET /exports/1/pages/1', ...Array.from({ length: 20 }, () => 'overloaded' as const));
  // 9 for the status, 9 for the download, whose policy has 10 attempts.
  expect(await failing(env.run(download, api.url))).toMatchObject({ origin: { stepId: 'download', attempt: 10 } });
  api.trouble('GET /exports/2', ...Array.from({ length: 9 }, () => 'overloaded' as const));
  api.trouble('POST /exports', ...Array.from({ length: 9 }, () => 'overloaded' as const));
  api.trouble('GET /exports/2/pages/1', ...Array.from({ length: 20 }, () => 'overloaded' as const));
  const spent = await failing(env.run(download, api.url));
  expect(spent?.cause).toBeInstanceOf(RetryBudgetError);
  expect(spent).toMatchObject({ category: 'limit', origin: { stepId: 'download', attempt: 3 } });

  const late = await failing(env.run(download, api.url, { runTimeout: '2 hours' }));
  expect(late?.cause).toBeInstanceOf(RunTimeoutError);
});
