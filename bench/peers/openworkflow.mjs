import { OpenWorkflow } from 'openworkflow';
import { BackendPostgres } from 'openworkflow/postgres';
import { inFlight, measure, measureFanout, steps } from './lib.mjs';

const backend = await BackendPostgres.connect(process.env.PEER_DATABASE_URL);
const app = new OpenWorkflow({ backend });
const run = app.defineWorkflow({ name: 'run' }, async ({ step }) => {
  let sum = 0;
  for (let n = 0; n < steps; n++) sum += await step.run({ name: `s${n}` }, async () => n);
  return sum;
});
const parent = app.defineWorkflow({ name: 'parent' }, async ({ input: count, step }) => {
  const results = await Promise.all(
    Array.from({ length: count }, (_, n) => step.runWorkflow(run.workflow.spec, {}, { name: `c${n}` })),
  );
  return results.length;
});
const worker = app.newWorker({ concurrency: inFlight });
await worker.start();
const isFanout = await measureFanout(async (count) => {
  const handle = await parent.run(count);
  await handle.result({ timeoutMs: 600_000 });
});
if (!isFanout) {
  await measure(async () => {
    const handle = await run.run({});
    await handle.result();
  });
}
process.exit(0);
