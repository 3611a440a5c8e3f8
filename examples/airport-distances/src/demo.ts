/**
 * Finds the two airports of each state of the USA that are farthest apart: a workflow starts a child run for each state, on another
 * task queue, and reduces their results. Compares the outcome with a direct computation.
 */
import { isDeepStrictEqual } from 'node:util';
import { Client, Worker } from 'perdure';
import { startDev } from 'perdure/dev';
import { farthestOf, readAirports } from './airports.js';
import { distances, MATH_QUEUE, measure, TASK_QUEUE } from './distances-workflow.js';

const say = (text: string) => process.stdout.write(`${text}\n`);

const dev = await startDev({ ephemeral: true, onProgress: (what) => say(`  ${what} …`) });
const address = dev.grpcAddress;
const client = new Client({ address });
const workers = [
  new Worker({ address, taskQueue: TASK_QUEUE, workflows: [distances] }),
  new Worker({ address, taskQueue: MATH_QUEUE, workflows: [measure], concurrency: 10 }),
];
try {
  for (const worker of workers) await worker.start();
  const handle = await client.start(distances, { taskQueue: TASK_QUEUE, workflowId: 'distances' });
  const result = await handle.result({ timeout: '60s' });

  const airports = readAirports();
  const states = [...new Set(airports.map(({ state }) => state))].sort();
  const direct = states
    .map((state) =>
      farthestOf(
        state,
        airports.filter((airport) => airport.state === state),
      ),
    )
    .sort((a, b) => b.km - a.km);
  if (!isDeepStrictEqual(result, direct))
    throw new Error('The workflow found other distances than the direct computation.');
  say(`\n  ${result.length} child runs; their distances equal the direct computation. The widest states:\n`);
  for (const { state, km, from, to, airports: count } of result.slice(0, 5)) {
    say(`    ${state}  ${String(km).padStart(5)} km from ${from} to ${to}, of ${count} airports`);
  }
} finally {
  client.close();
  await Promise.all(workers.map((worker) => worker.shutdown()));
  await dev.stop();
}
