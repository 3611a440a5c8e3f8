// pnpm bench:bulk [rate] - what a bulk operation over 100,000 runs costs others. Runs are started, claimed, recorded and ended by tens, straight at
// the store, and executed by a worker, at a steady pace, in turns while the operation is paused and while it is under way. Server, reaper, worker and
// PostgreSQL are processes of their own.
import { setTimeout as delay } from 'node:timers/promises';
import { claimRuns, endRuns, openDatabase, recordSteps, registerWorkers, startRuns } from '@perdure/store';
import Table from 'cli-table3';
import postgres from 'postgres';
import { startStack, TASK_QUEUE } from './lib/stack.mjs';
import { median, quantile } from './lib/statistics.mjs';
import { finishCommand, recordCommand, startCommand } from './lib/store-commands.mjs';

const RATE = Number(process.argv[2] ?? 1_000);
const RUNS = 100_000;
const TURN_MS = 5_000;
const STORE_PACE_MS = 100;
const EXECUTE_PACE_MS = 50;
const QUEUE = { namespace: 'default', taskQueue: 'live', workflowTypes: ['w'] };
const WHAT = ['start', 'claim', 'record', 'finish', 'execute'];

const stack = await startStack();
const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => undefined });
const db = openDatabase({ url: stack.databaseUrl });
const workerId = crypto.randomUUID();
/** Again for each turn: a worker without heartbeats is soon OFFLINE. */
const register = () =>
  registerWorkers(db, [{ ...QUEUE, workerId, build: '', identity: '', slots: 100, leaseMs: 30_000 }]);
await sql.unsafe(`insert into perdure.workflow_runs (run_id, created_at, updated_at, started_at, lease_token, max_lost_leases, status,
    yield_reason, namespace, workflow_id, workflow_type, task_queue, waits)
  select id, now(), now(), now(), 1, 10, 'WAITING', 'SUSPEND', 'default', id::text, 'parked', 'parked', '[{"step": "s", "kind": "SIGNAL"}]'
  from (select gen_random_uuid() as id from generate_series(1, ${RUNS})) x`);
await sql.unsafe('vacuum analyze perdure.workflow_runs');
await sql.unsafe('checkpoint');

async function timed(times, work) {
  const beganMs = performance.now();
  const result = await work();
  times.push(performance.now() - beganMs);
  return result;
}

async function tenRuns(times) {
  const slots = Array.from({ length: 10 }, () => ({ workerId }));
  const starts = Array.from({ length: 10 }, () => startCommand(QUEUE.taskQueue, 'w'));
  await timed(times.start, () => startRuns(db, starts));
  const claimed = await timed(times.claim, () =>
    claimRuns(db, { ...QUEUE, slots }, { memoPageBytes: 1e6, memoPageEntries: 100 }),
  );
  const runs = claimed.map(({ claim }) => claim.run);
  await timed(times.record, () =>
    recordSteps(
      db,
      runs.map(({ runId, leaseToken }) => recordCommand(runId, leaseToken, 1, null)),
    ),
  );
  await timed(times.finish, () =>
    endRuns(
      db,
      runs.map(({ runId, leaseToken }) => finishCommand(runId, leaseToken)),
    ),
  );
}

/** Calls at a steady pace; a late one does not make the next one late. */
async function paced(periodMs, untilMs, work) {
  const all = [];
  for (let atMs = performance.now(); atMs < untilMs; atMs += periodMs) {
    await delay(Math.max(0, atMs - performance.now()));
    all.push(work());
  }
  await Promise.all(all);
}

async function measure() {
  await register();
  const times = Object.fromEntries(WHAT.map((name) => [name, []]));
  const untilMs = performance.now() + TURN_MS;
  await Promise.all([
    paced(STORE_PACE_MS, untilMs, () => tenRuns(times)),
    paced(EXECUTE_PACE_MS, untilMs, () =>
      timed(times.execute, () => stack.client.execute('one', undefined, { taskQueue: TASK_QUEUE })),
    ),
  ]);
  return times;
}

await measure();
const turns = { without: [], with: [] };
const operation = await stack.client.startBulk('PAUSE', { workflowType: 'parked' }, { rate: RATE, reason: 'bench' });
await operation.pause();
let activeMs = 0;
for (;;) {
  turns.without.push(await measure());
  await operation.resume();
  const beganMs = performance.now();
  const times = await measure();
  activeMs += performance.now() - beganMs;
  const { status, changed } = await operation.get();
  process.stderr.write(`${changed} of ${RUNS}\n`);
  if (status === 'COMPLETED') break;
  turns.with.push(times);
  await operation.pause();
}
process.stderr.write('\n');
turns.without.length = turns.with.length;

const table = new Table({
  head: ['', 'p50 without', 'p50 with', 'ratio', 'p99 without', 'p99 with', 'ratio', 'of turns'],
  style: { head: [], border: [] },
});
for (const name of WHAT) {
  const pooled = (kind) => turns[kind].flatMap((turn) => turn[name]);
  const row = [0.5, 0.99].flatMap((q) => {
    const [before, beside] = [quantile(pooled('without'), q), quantile(pooled('with'), q)];
    return [before, beside, beside / before];
  });
  const ofTurns = turns.with.map(
    (turn, index) => quantile(turn[name], 0.99) / quantile(turns.without[index][name], 0.99),
  );
  table.push([name, ...[...row, median(ofTurns)].map((value) => value.toFixed(2))]);
}
console.log(table.toString());
const { changed } = await operation.get();
console.log(
  `ms; ${turns.with.length} turns of ${TURN_MS / 1_000} s each way; 'of turns' is the median of the turns' own p99 ratios. ` +
    `${changed.toLocaleString('en')} runs paused at up to ${RATE.toLocaleString('en')} per second, in ${(activeMs / 1_000).toFixed(0)} s.`,
);
await sql.end();
await db.close();
await stack.stop();
