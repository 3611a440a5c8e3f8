/** An export that takes three hours, from an API that is overloaded, goes down and hangs, in seconds: the testing kit skips the waiting. */
import { createTestEnvironment } from 'perdure/testing';
import { startExportApi, TOTAL } from './export-api.js';
import { exportWorkflow, TASK_QUEUE } from './export-workflow.js';

const say = (text: string) => process.stdout.write(`${text}\n`);

await using api = await startExportApi();
await using env = await createTestEnvironment();
api.trouble('POST /exports', 'hangs');
api.trouble('GET /exports/1', 'overloaded', 'down');
api.trouble('GET /exports/1/pages/3', 'down');
api.trouble('GET /exports/1/pages/4', 'hangs');

const began = await env.now();
const run = await env.start(exportWorkflow({ timeout: '500ms', silence: '500ms' }), api.url, {
  taskQueue: TASK_QUEUE,
  runTimeout: '1 day',
});
const { pages, total } = await run.result();
for (const line of api.requests) say(`  ${line}`);

say('');
for (const { step, attempts } of await env.history(run))
  say(`  ${step}: ${attempts} attempt${attempts === 1 ? '' : 's'}`);
const hours = Math.floor(((await env.now()).getTime() - began.getTime()) / 3_600_000);
const asked = (page: number) => api.requests.filter((line) => line.startsWith(`GET /exports/1/pages/${page} `)).length;
say('');
say(`After ${hours} hours ${pages} pages are added up: ${total === TOTAL ? 'right' : 'wrong'}.`);
say(`Page 1 was read ${asked(1)} time, page 3 ${asked(3)} times, page 4 ${asked(4)} times.`);
