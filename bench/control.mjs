// pnpm bench:control [-- --steps 5000 --bytes 1000 --rounds 7]
// How long a long run is locked by what people and its code do to it: a fork, a retry, a continuation, a step that is ended by hand, and the
// deletion of a fork's origin. Straight at the store, one call at a time.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startEmbeddedPostgres } from '@perdure/embedded-postgres';
import {
  beginSteps,
  claimRuns,
  continueRuns,
  deleteRuns,
  endRuns,
  endSteps,
  forkRuns,
  migrate,
  openDatabase,
  recordSteps,
  registerWorkers,
  retryRuns,
  startRuns,
  terminateRuns,
} from '@perdure/store';
import Table from 'cli-table3';
import postgres from 'postgres';
import { median, quantile } from './lib/statistics.mjs';
import { recordCommand, startCommand } from './lib/store-commands.mjs';

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '5000' },
    bytes: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '7' },
  },
});
const [steps, bytes, rounds] = [Number(values.steps), Number(values.bytes), Number(values.rounds)];
const QUEUE = { namespace: 'default', taskQueue: 'live', workflowTypes: ['w'] };
const folder = mkdtempSync(join(tmpdir(), 'perdure-control-'));
chmodSync(folder, 0o711);
const instance = await startEmbeddedPostgres({ folder: join(folder, 'postgres') });
await migrate({ url: instance.url });
const db = openDatabase({ url: instance.url });
const sql = postgres(instance.url, { max: 1, onnotice: () => undefined });
const workerId = crypto.randomUUID();
await registerWorkers(db, [{ ...QUEUE, workerId, build: '', identity: '', slots: 1, leaseMs: 300_000 }]);

const output = { data: Buffer.alloc(bytes, 'x'), encoding: 'bytes' };
const action = { namespace: 'default', actor: 'bench', reason: '', requestId: null };

/** A leased run with so many completed steps. */
async function longRun() {
  const start = startCommand(QUEUE.taskQueue, 'w');
  await startRuns(db, [start]);
  const [claimed] = await claimRuns(
    db,
    { ...QUEUE, slots: [{ workerId }] },
    { memoPageBytes: 1_000_000, memoPageEntries: 1_000 },
  );
  const { runId, leaseToken } = claimed.claim.run;
  for (let seq = 1; seq <= steps; seq += 500) {
    const batch = Array.from({ length: Math.min(500, steps - seq + 1) }, (_, index) =>
      recordCommand(runId, leaseToken, seq + index, output),
    );
    await recordSteps(db, batch);
  }
  return { namespace: 'default', runId, leaseToken };
}

const failure = { type: 'Error', message: 'm', reason: 'APPLICATION' };
const cutOf = (lease, seq) => ({ from: { leaseToken: lease.leaseToken, eventSeq: seq }, seq });
const fork = (runId) =>
  forkRuns(db, [{ ...action, runId, stepId: `s${steps}`, workflowId: crypto.randomUUID(), input: null }]);
const end = ({ runId }) => terminateRuns(db, [{ namespace: 'default', runId, reason: '' }]);

/** Each prepares a run, and returns what is measured. */
const cases = {
  'fork from the last step': async () => {
    const lease = await longRun();
    return () => fork(lease.runId);
  },
  'fork from the last step, of an ended run': async () => {
    const lease = await longRun();
    await end(lease);
    return () => fork(lease.runId);
  },
  'retry from the last step': async () => {
    const lease = await longRun();
    await endRuns(db, [{ ...lease, end: 'FAILED', failure, cut: cutOf(lease, steps) }]);
    return () => retryRuns(db, [{ ...action, runId: lease.runId }]);
  },
  'retry from the first step: all are cut': async () => {
    const lease = await longRun();
    await endRuns(db, [{ ...lease, end: 'FAILED', failure, cut: cutOf(lease, 1) }]);
    return () => retryRuns(db, [{ ...action, runId: lease.runId }]);
  },
  'continue as another run': async () => {
    const lease = await longRun();
    const limits = { startDelayMs: 0, runTimeoutMs: null, executionTimeoutMs: null };
    const next = { ...limits, input: null, taskQueue: 'elsewhere', priority: null, hasOpenSteps: false };
    return () => continueRuns(db, [{ ...lease, ...next }]);
  },
  'end a step by hand': async () => {
    const lease = await longRun();
    const begin = { ...recordCommand(lease.runId, lease.leaseToken, steps + 1, null), timeoutMs: 0, input: null };
    await beginSteps(db, [begin]);
    return () => endSteps(db, [{ ...action, runId: lease.runId, stepId: begin.stepId, outcome: { kind: 'SKIPPED' } }]);
  },
  'delete the origin of a fork': async () => {
    const lease = await longRun();
    await fork(lease.runId);
    await end(lease);
    return () => deleteRuns(db, [{ namespace: 'default', runId: lease.runId }]);
  },
};

const OK = new Set(['forked', 'retried', 'continued', 'ended', 'deleted']);
const table = new Table({ head: ['', 'median ms', 'worst ms'], style: { head: [], border: [] } });
try {
  for (const [name, prepare] of Object.entries(cases)) {
    const times = [];
    for (let round = 0; round < rounds; round++) {
      await sql`truncate perdure.workflow_runs, perdure.step_runs, perdure.run_actions, perdure.fork_payloads`;
      const act = await prepare();
      const beganMs = performance.now();
      const [outcome] = await act();
      times.push(performance.now() - beganMs);
      if (!OK.has(outcome.kind)) throw new Error(`${name}: ${outcome.kind}`);
    }
    table.push([name, median(times).toFixed(0), quantile(times, 1).toFixed(0)]);
  }
} finally {
  await sql.end();
  await db.close();
  await instance.stop();
  rmSync(folder, { recursive: true, force: true });
}
console.log(
  `A run of ${steps.toLocaleString('en')} steps with ${bytes.toLocaleString('en')} bytes each, ${rounds} rounds.`,
);
console.log(table.toString());
