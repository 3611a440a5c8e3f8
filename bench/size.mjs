// pnpm bench:size [-- --runs 5000]
// How large runs become in the database: bytes of tables and indexes per ended run, and of PostgreSQL's log per run.
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Client, Worker, workflow } from '@perdure/worker-sdk';
import Table from 'cli-table3';
import postgres from 'postgres';
import { startStack } from './lib/stack.mjs';
import { withInFlight } from './lib/statistics.mjs';

const { values } = parseArgs({ options: { runs: { type: 'string', default: '5000' } } });
const count = Number(values.runs);
const taskQueue = 'size';

/** Random, so that nothing of it is compressed. Bytes are stored as they are. */
const outputOf = (bytes) => (bytes === 0 ? null : new Uint8Array(randomBytes(bytes)));
const steps = workflow('steps', async (ctx, { steps: many, bytes }) => {
  for (let n = 0; n < many; n++) await ctx.step('s', () => outputOf(bytes));
});
const nap = workflow('nap', async (ctx) => {
  await ctx.sleep('long', '30d');
});

const cases = [
  { what: '1 step, no output', workflow: steps, input: { steps: 1, bytes: 0 } },
  { what: '10 steps, no output', workflow: steps, input: { steps: 10, bytes: 0 } },
  { what: '10 steps of 100 bytes', workflow: steps, input: { steps: 10, bytes: 100 } },
  { what: '10 steps of 1,000 bytes', workflow: steps, input: { steps: 10, bytes: 1_000 } },
  { what: '10 steps of 10,000 bytes', workflow: steps, input: { steps: 10, bytes: 10_000 }, share: 0.1 },
  { what: 'a sleep', workflow: nap, input: undefined, stays: true },
];

const stack = await startStack();
const client = new Client({ address: stack.address });
const worker = new Worker({
  address: stack.address,
  taskQueue,
  workflows: [steps, nap],
  concurrency: 200,
  warmRuns: 0,
});
const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => undefined });
const table = new Table({
  head: ['a run of', 'rows of runs', 'rows of steps', 'indexes', 'out of line', 'in all', 'log of PostgreSQL'],
  style: { head: [], border: [] },
});
try {
  await worker.start();
  for (const { what, workflow: code, input, share = 1, stays } of cases) {
    const runs = Math.round(count * share);
    await sql`truncate perdure.workflow_runs, perdure.step_runs`;
    await sql`checkpoint`;
    const [before, logBefore] = [await sizes(), await position()];
    const act = stays
      ? () => client.start(code, input, { taskQueue })
      : () => client.execute(code, input, { taskQueue });
    await withInFlight(runs, 100, act);
    if (stays) await asleep(runs);
    const [after, logAfter] = [await sizes(), await position()];
    const per = (name) => Math.round((after[name] - before[name]) / runs);
    const parts = ['runs', 'steps', 'indexes', 'toast'].map(per);
    const all = parts.reduce((sum, part) => sum + part, 0);
    table.push([
      what,
      ...[...parts, all, (logAfter - logBefore) / runs].map((one) => Math.round(one).toLocaleString('en')),
    ]);
  }
} finally {
  await worker.shutdown(0);
  await sql.end();
  client.close();
  await stack.stop();
}
console.log(
  `Bytes per run, ${count.toLocaleString('en')} runs of each, all ended but those that sleep; after no vacuum.`,
);
console.log(table.toString());

async function sizes() {
  const [row] = await sql`
    select pg_relation_size('perdure.workflow_runs')::float8 as runs, pg_relation_size('perdure.step_runs')::float8 as steps,
      (pg_indexes_size('perdure.workflow_runs') + pg_indexes_size('perdure.step_runs'))::float8 as indexes,
      (select sum(pg_total_relation_size(reltoastrelid)) from pg_class
        where oid in ('perdure.workflow_runs'::regclass, 'perdure.step_runs'::regclass))::float8 as toast`;
  return row;
}

async function position() {
  return Number((await sql`select pg_current_wal_lsn() - '0/0'::pg_lsn as bytes`)[0].bytes);
}

async function asleep(runs) {
  for (;;) {
    const [{ count: sleeping }] = await sql`select count(*)::int from perdure.workflow_runs where status = 'SLEEPING'`;
    if (sleeping >= runs) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
