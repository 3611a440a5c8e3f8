// pnpm bench:flat - does it cost more when there is more? Claims, wake-ups and completions on empty tables, then beside
// 1,000,000 finished and 1,000,000 sleeping runs; then 50,000 timers that are due at once. Straight at the store.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '@perdure/embedded-postgres';
import {
  claimRuns,
  finishRuns,
  migrate,
  openDatabase,
  recordSteps,
  registerWorkers,
  startIdentity,
  startRuns,
  wakeSleepers,
} from '@perdure/store';
import Table from 'cli-table3';
import postgres from 'postgres';
import { quantile } from './lib/statistics.mjs';

const ROWS = Number(process.argv[2] ?? 1_000_000);
const folder = mkdtempSync(join(tmpdir(), 'perdure-flat-'));
chmodSync(folder, 0o711);
const instance = await startEmbeddedPostgres({
  folder: join(folder, 'postgres'),
  settings: { max_wal_size: '4GB', shared_buffers: '256MB' },
});
await migrate({ url: instance.url });
const db = openDatabase({ url: instance.url });
const sql = postgres(instance.url, { max: 1, onnotice: () => undefined });
const queue = { namespace: 'default', taskQueue: 'live', workflowTypes: ['w'] };
const workerId = crypto.randomUUID();
await registerWorkers(db, [{ ...queue, workerId, version: '', identity: '', slots: 100, leaseMs: 30_000 }]);

async function timed(times, work) {
  const beganMs = performance.now();
  const result = await work();
  times.push(performance.now() - beganMs);
  return result;
}

/** Starts, claims, records and finishes runs by tens, and tells how long each takes. */
async function measure(rounds) {
  const times = { start: [], claim: [], record: [], finish: [] };
  for (let round = 0; round < rounds; round++) {
    const starts = Array.from({ length: 10 }, () => {
      const { runId } = startIdentity('default', '');
      const none = {
        input: null,
        requestId: null,
        version: '',
        startDelayMs: 0,
        runTimeoutMs: 0,
        executionTimeoutMs: 0,
      };
      return {
        ...queue,
        ...none,
        runId,
        workflowId: runId,
        workflowType: 'w',
        priority: 0,
        reusePolicy: 'ALLOW',
        maxLostLeases: 10,
      };
    });
    await timed(times.start, () => startRuns(db, starts));
    const slots = Array.from({ length: 10 }, () => ({ workerId }));
    const claimed = await timed(times.claim, () =>
      claimRuns(db, { ...queue, slots }, { memoPageBytes: 1e6, memoPageEntries: 100 }),
    );
    const leases = claimed.map(({ claim: { run } }) => ({
      namespace: 'default',
      runId: run.runId,
      leaseToken: run.leaseToken,
    }));
    const step = {
      stepId: 's',
      seq: 1,
      stepKind: 'FUNCTION',
      attemptNumber: 1,
      tryNumber: 1,
      maxTries: 3,
      uncancellable: false,
    };
    await timed(times.record, () =>
      recordSteps(
        db,
        leases.map((lease) => ({ ...lease, ...step, output: null, eventSeq: 1 })),
      ),
    );
    await timed(times.finish, () =>
      finishRuns(
        db,
        leases.map((lease) => ({ ...lease, end: 'COMPLETED', output: null, hasOpenSteps: false })),
      ),
    );
  }
  return Object.fromEntries(
    Object.entries(times).map(([name, all]) => [name, { p50: quantile(all, 0.5), p99: quantile(all, 0.99) }]),
  );
}

await measure(100);
const empty = await measure(400);
process.stderr.write(`Making ${(2 * ROWS).toLocaleString('en')} runs …\n`);
for (const [status, columns] of [
  ['COMPLETED', `now(), null::timestamptz`],
  ['SLEEPING', `null::timestamptz, now() + interval '1 day' * random()`],
]) {
  await sql.unsafe(`insert into perdure.workflow_runs (run_id, created_at, updated_at, finished_at, wake_at, lease_token, max_lost_leases,
      status, yield_reason, namespace, workflow_id, workflow_type, task_queue)
    select id, now(), now(), ${columns}, 1, 10, '${status}', 'SUSPEND', 'default', id::text, 'w', 'live'
    from (select gen_random_uuid() as id from generate_series(1, ${ROWS})) x`);
}
await sql.unsafe('vacuum analyze perdure.workflow_runs');
await sql.unsafe('checkpoint');
await measure(100);
const full = await measure(400);

await sql.unsafe(`update perdure.workflow_runs set wake_at = now() where run_id in (
  select run_id from perdure.workflow_runs where status = 'SLEEPING' limit 50000)`);
const wakes = [];
const beganMs = performance.now();
let woken = 0;
for (let batch = -1; batch !== 0; woken += batch) {
  ({ woken: batch } = await timed(wakes, () => wakeSleepers(db, { limit: 500 })));
}
const wakeSeconds = (performance.now() - beganMs) / 1000;

const table = new Table({
  head: [
    '10 runs',
    'empty p50, ms',
    `beside ${(2 * ROWS).toLocaleString('en')} p50, ms`,
    'empty p99, ms',
    'full p99, ms',
    'p50 ratio',
    'p99 ratio',
  ],
  style: { head: [], border: [] },
});
for (const name of Object.keys(empty)) {
  const [before, after] = [empty[name], full[name]];
  table.push([
    name,
    ...[before.p50, after.p50, before.p99, after.p99, after.p50 / before.p50, after.p99 / before.p99].map((value) =>
      value.toFixed(2),
    ),
  ]);
}
console.log(table.toString());
console.log(
  `${woken.toLocaleString('en')} due timers woken in ${wakeSeconds.toFixed(1)} s (${Math.round(woken / wakeSeconds).toLocaleString('en')}/s); a batch of 500 takes ${quantile(wakes, 0.5).toFixed(1)} ms, p99 ${quantile(wakes, 0.99).toFixed(1)} ms.`,
);
await sql.end();
await db.close();
await instance.stop();
rmSync(folder, { recursive: true, force: true });
