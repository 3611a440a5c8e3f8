/**
 * Imports 20,000 flights with a workflow of 123 steps while its worker is killed at random moments, then compares table and
 * aggregates with a direct computation. `node dist/demo.js [kills] [seed]`
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client } from 'perdure';
import { startDev } from 'perdure/dev';
import { checkImport } from './check-import.js';
import { FlightTable } from './flight-table.js';
import { importWorkflow, TASK_QUEUE } from './import-workflow.js';

const kills = Number(process.argv[2] ?? 6);
const seed = Number(process.argv[3] ?? Date.now() % 100_000);
const say = (text: string) => process.stdout.write(`${text}\n`);

/** Park and Miller's generator: the kills of a seed can be repeated, as far as timing can. */
let state = (seed % 2_147_483_646) + 1;
const random = () => {
  state = (state * 48_271) % 2_147_483_647;
  return state / 2_147_483_647;
};

const dev = await startDev({ ephemeral: true, onProgress: (what) => say(`  ${what} …`) });
const table = new FlightTable(dev.databaseUrl);
const client = new Client({ address: dev.grpcAddress });
const startWorker = (): ChildProcess =>
  spawn(process.execPath, [fileURLToPath(new URL('worker.js', import.meta.url))], {
    env: {
      ...process.env,
      PERDURE_ADDRESS: dev.grpcAddress,
      FLIGHTS_DATABASE_URL: dev.databaseUrl,
      PERDURE_LOG_LEVEL: 'error',
    },
    stdio: ['ignore', 'inherit', 'inherit'],
  });

let worker = startWorker();
try {
  const handle = await client.start(importWorkflow(table), { rowsPerChunk: 500 }, { taskQueue: TASK_QUEUE });
  say(`  Import ${handle.runId} started; its worker will be killed up to ${kills} times (seed ${seed})`);
  let killed = 0;
  const killing = (async () => {
    while (killed < kills) {
      // The killed worker held the run; once its attempt has risen, another worker has claimed it.
      for (;;) {
        const { status, attempt, finishedAt } = await handle.get();
        if (finishedAt !== undefined) return;
        if (status === 'RUNNING' && attempt > killed) break;
        await delay(20);
      }
      await delay(random() * 400);
      worker.kill('SIGKILL');
      await once(worker, 'exit');
      killed++;
      say(`  Worker ${worker.pid} killed (${killed})`);
      worker = startWorker();
    }
  })();
  const result = await handle.result({ timeout: '5 minutes' });
  await killing;
  await checkImport(table, result);
  const loads = await table.loads();
  say(
    `\n  ${result.loaded} flights of ${result.totals.length} airports; table and aggregates equal the direct computation.`,
  );
  say(
    `  ${killed} kills. ${loads} loads for 40 chunks: ${loads - 40} were repeated because their worker died before the result was recorded.\n`,
  );
  const program = fileURLToPath(new URL('bin/perdure.js', import.meta.resolve('perdure/package.json')));
  say('  Attempts that were lost with their worker:\n');
  const history = spawn(process.execPath, [program, 'run', 'history', handle.runId, '-o', 'jsonl'], {
    env: { ...process.env, PERDURE_ADDRESS: dev.grpcAddress },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  history.stdout?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await once(history, 'close');
  for (const line of text.trim().split('\n')) {
    const step = JSON.parse(line) as {
      stepId: string;
      attemptNumber: number;
      status: string;
      failure?: { message: string };
    };
    if (step.status === 'FAILED') say(`    ${step.stepId} attempt ${step.attemptNumber}: ${step.failure?.message}`);
  }
} finally {
  client.close();
  worker.kill('SIGTERM');
  if (worker.exitCode === null && worker.signalCode === null) await once(worker, 'exit');
  await table.close();
  await dev.stop();
}
