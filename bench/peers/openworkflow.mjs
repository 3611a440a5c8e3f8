import { OpenWorkflow } from 'openworkflow';
import { BackendPostgres } from 'openworkflow/postgres';
import { inFlight, measure, steps } from './lib.mjs';

const backend = await BackendPostgres.connect(process.env.PEER_DATABASE_URL);
const app = new OpenWorkflow({ backend });
const run = app.defineWorkflow({ name: 'run' }, async ({ step }) => {
  let sum = 0;
  for (let n = 0; n < steps; n++) sum += await step.run({ name: `s${n}` }, async () => n);
  return sum;
});
const worker = app.newWorker({ concurrency: inFlight });
await worker.start();
await measure(async () => {
  const handle = await run.run({});
  await handle.result();
});
process.exit(0);
