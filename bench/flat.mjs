// pnpm bench:flat [rows] - does it cost more when there is more? Starts, claims, steps and ends in a database without other
// runs and in one beside 1,000,000 finished and 1,000,000 sleeping runs, in turns on the same PostgreSQL; then 50,000 timers
// that are due at once. Straight at the store.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '@perdure/embedded-postgres';
import {
  claimRuns,
  endRuns,
  migrate,
  openDatabase,
  recordSteps,
  registerWorkers,
  startRuns,
  wakeSleepers,
} from '@perdure/store';
import Table from 'cli-table3';
import postgres from 'postgres';
import { median, quantile } from './lib/statistics.mjs';
import { finishCommand, recordCommand, startCommand } from './lib/store-commands.mjs';

const ROWS = Number(process.argv[2] ?? 1_000_000);
const TURNS = 30;
const SAMPLES_PER_TURN = 150;
const QUEUE = { namespace: 'default', taskQueue: 'live', workflowTypes: ['w'] };
const folder = mkdtempSync(join(tmpdir(), 'perdure-flat-'));
chmodSync(folder, 0o711);
const instance = await startEmbeddedPostgres({
  folder: join(folder, 'postgres'),
  settings: { max_wal_size: '4GB', shared_buffers: '256MB' },
});
const admin = postgres(instance.url, { max: 1, onnotice: () => undefined });

async function openNamed(name) {
  await admin.unsafe(`create database ${name}`);
  const url = new URL(instance.url);
  url.pathname = `/${name}`;
  await migrate({ url: url.href });
  const db = openDatabase({ url: url.href });
  const workerId = crypto.randomUUID();
  await registerWorkers(db, [{ ...QUEUE, workerId, build: '', identity: '', slots: 100, leaseMs: 30_000 }]);
  const sql = postgres(url.href, { max: 1, onnotice: () => undefined });
  return { db, sql, workerId, times: { start: [], claim: [], record: [], finish: [] }, turns: [] };
}

async function timed(times, work) {
  const beganMs = performance.now();
  const result = await work();
  times.push(performance.now() - beganMs);
  return result;
}

/** Starts, claims, records and finishes runs by tens, and notes how long each takes. */
async function measure({ db, workerId }, samples) {
  const times = { start: [], claim: [], record: [], finish: [] };
  const slots = Array.from({ length: 10 }, () => ({ workerId }));
  for (let sample = 0; sample < samples; sample++) {
    const starts = Array.from({ length: 10 }, () => startCommand(QUEUE.taskQueue, 'w'));
    await timed(times.start, () => startRuns(db, starts));
    const claimed = await timed(times.claim, () =>
      claimRuns(db, { ...QUEUE, slots }, { memoPageBytes: 1e6, memoPageEntries: 100 }),
    );
    const runs = claimed.map(({ claim }) => claim.run);
    const records = runs.map(({ runId, leaseToken }) => recordCommand(runId, leaseToken, 1, null));
    await timed(times.record, () => recordSteps(db, records));
    const ends = runs.map(({ runId, leaseToken }) => finishCommand(runId, leaseToken));
    await timed(times.finish, () => endRuns(db, ends));
  }
  return times;
}

async function fill({ sql }) {
  for (const [status, columns] of [
    ['COMPLETED', `now(), null::timestamptz`],
    ['SLEEPING', `null::timestamptz, now() + interval '1 day' * (0.1 + random())`],
  ]) {
    await sql.unsafe(`insert into perdure.workflow_runs (run_id, created_at, updated_at, finished_at, wake_at, lease_token, max_lost_leases,
        status, yield_reason, namespace, workflow_id, workflow_type, task_queue)
      select id, now(), now(), ${columns}, 1, 10, '${status}', 'SUSPEND', 'default', id::text, 'w', 'live'
      from (select gen_random_uuid() as id from generate_series(1, ${ROWS})) x`);
  }
  await sql.unsafe('vacuum analyze perdure.workflow_runs');
  await sql.unsafe('checkpoint');
}

/** 50,000 timers that are due at once, woken as the reaper does, while other runs are started and executed. */
async function wakeMany(database) {
  const { db, sql } = database;
  await sql.unsafe(`update perdure.workflow_runs set wake_at = now() where run_id in (
    select run_id from perdure.workflow_runs where status = 'SLEEPING' limit 50000)`);
  const batches = [];
  const starts = [];
  const beganMs = performance.now();
  let woken = 0;
  let done = false;
  const wake = async () => {
    for (let batch = -1; batch !== 0; woken += batch) {
      ({ woken: batch } = await timed(batches, () => wakeSleepers(db, { limit: 500 })));
    }
    done = true;
    return (performance.now() - beganMs) / 1000;
  };
  const work = async () => {
    while (!done) starts.push(...(await measure(database, 10)).start);
  };
  const [seconds] = await Promise.all([wake(), work()]);
  return { woken, batches, starts, seconds };
}

const empty = await openNamed('empty');
const full = await openNamed('crowded');
process.stderr.write(`Making ${(2 * ROWS).toLocaleString('en')} runs …\n`);
await fill(full);
for (const database of [empty, full]) await measure(database, 100);
for (let turn = 1; turn <= TURNS; turn++) {
  if (process.stderr.isTTY) process.stderr.write(`\rturn ${turn} of ${TURNS}\u001b[K`);
  for (const database of turn % 2 === 0 ? [empty, full] : [full, empty]) {
    const times = await measure(database, SAMPLES_PER_TURN);
    database.turns.push(times);
    for (const [name, all] of Object.entries(times)) database.times[name].push(...all);
  }
}
process.stderr.write('\n');
const { woken, batches, starts, seconds } = await wakeMany(full);

const table = new Table({
  head: ['10 runs', 'empty p50, ms', 'full p50, ms', 'ratio', 'empty p99, ms', 'full p99, ms', 'ratio', 'of turns'],
  style: { head: [], border: [] },
});
for (const name of Object.keys(empty.times)) {
  const at = (database, q) => quantile(database.times[name], q);
  const ofTurns = full.turns.map(
    (turn, index) => quantile(turn[name], 0.99) / quantile(empty.turns[index][name], 0.99),
  );
  const row = [0.5, 0.99].flatMap((q) => [at(empty, q), at(full, q), at(full, q) / at(empty, q)]);
  table.push([name, ...[...row, median(ofTurns)].map((value) => value.toFixed(2))]);
}
console.log(table.toString());
console.log(
  `${TURNS * SAMPLES_PER_TURN} samples each; 'of turns' is the median of the ${TURNS} turns' own p99 ratios. ` +
    `${woken.toLocaleString('en')} due timers woken in ${seconds.toFixed(1)} s; a batch of 500 takes ` +
    `${quantile(batches, 0.5).toFixed(1)} ms, p99 ${quantile(batches, 0.99).toFixed(1)} ms. ` +
    `Meanwhile ${starts.length} times ten runs were started: p50 ${quantile(starts, 0.5).toFixed(2)} ms, p99 ${quantile(starts, 0.99).toFixed(2)} ms.`,
);
for (const { db, sql } of [empty, full]) {
  await sql.end();
  await db.close();
}
await admin.end();
await instance.stop();
rmSync(folder, { recursive: true, force: true });
