import { Absurd } from 'absurd-sdk';
import pg from 'pg';
import { inFlight, measure, steps } from './lib.mjs';

const pool = new pg.Pool({ connectionString: process.env.PEER_DATABASE_URL, max: 20 });
const app = new Absurd({ db: pool });
await app.createQueue('default').catch(() => undefined);
// Its own way to wait for a result polls every 50 ms and more; here a run tells by itself that it has ended.
const waiting = new Map();
app.registerTask({ name: 'run' }, async ({ id }, ctx) => {
  let sum = 0;
  for (let n = 0; n < steps; n++) sum += await ctx.step(`s${n}`, async () => n);
  waiting.get(id)?.();
  waiting.delete(id);
  return sum;
});
const worker = await app.startWorker({ concurrency: inFlight, batchSize: 20, pollInterval: 0.02 });
await measure(async () => {
  const id = crypto.randomUUID();
  const ended = new Promise((resolve) => waiting.set(id, resolve));
  await app.spawn('run', { id });
  await ended;
});
// The last runs have told, but may not have been recorded yet.
await worker.close();
process.exit(0);
