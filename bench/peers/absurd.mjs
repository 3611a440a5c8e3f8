import { Absurd } from 'absurd-sdk';
import pg from 'pg';
import { inFlight, measure, measureFanout, steps } from './lib.mjs';

const pool = new pg.Pool({ connectionString: process.env.PEER_DATABASE_URL, max: 20 });
const app = new Absurd({ db: pool });
await app.createQueue('default').catch(() => undefined);
await app.createQueue('parents').catch(() => undefined);
const parents = new Absurd({ db: pool, queueName: 'parents' });
// Its own way to wait for a result polls every 50 ms and more; here a run tells by itself that it has ended.
const waiting = new Map();
app.registerTask({ name: 'run' }, async ({ id }, ctx) => {
  let sum = 0;
  for (let n = 0; n < steps; n++) sum += await ctx.step(`s${n}`, async () => n);
  waiting.get(id)?.();
  waiting.delete(id);
  return sum;
});
// A task may wait for tasks of another queue.
parents.registerTask({ name: 'parent' }, async ({ id, count }, ctx) => {
  const spawned = await Promise.all(
    Array.from({ length: count }, (_, n) => ctx.step(`c${n}`, async () => (await app.spawn('run', {})).taskID)),
  );
  for (const [n, taskId] of spawned.entries())
    await ctx.awaitTaskResult(taskId, { queue: 'default', stepName: `r${n}`, timeout: 600 });
  waiting.get(id)?.();
  return count;
});
const worker = await app.startWorker({ concurrency: inFlight, batchSize: 20, pollInterval: 0.02 });
const parentWorker = await parents.startWorker({ concurrency: inFlight, batchSize: 20, pollInterval: 0.02 });
const told = async (on, name, input) => {
  const id = crypto.randomUUID();
  const ended = new Promise((resolve) => waiting.set(id, resolve));
  await on.spawn(name, { ...input, id });
  await ended;
};
if (!(await measureFanout((count) => told(parents, 'parent', { count })))) await measure(() => told(app, 'run', {}));
// The last runs have told, but may not have been recorded yet.
await Promise.all([worker.close(), parentWorker.close()]);
process.exit(0);
