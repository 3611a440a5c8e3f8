import { setTimeout as delay } from 'node:timers/promises';
import postgres from 'postgres';
import { fanout } from './fanout.mjs';
import { bareLimit, ownLimit } from './group-commit-limit.mjs';
import { messages } from './messages.mjs';
import { TASK_QUEUE } from './stack.mjs';
import { quantile, withInFlight } from './statistics.mjs';

const taskQueue = TASK_QUEUE;
const now = () => performance.timeOrigin + performance.now();

const PARTS = ['server', 'worker', 'postgres', 'client'];

/** Runs per second, and what each run costs each part. */
async function runs(stack, name, count, inFlight) {
  const before = PARTS.map(stack.cpuS);
  const beganMs = performance.now();
  await withInFlight(count, inFlight, () => stack.client.execute(name, undefined, { taskQueue }));
  const seconds = (performance.now() - beganMs) / 1000;
  return {
    perSecond: count / seconds,
    cpuUs: PARTS.map((part, index) => ((stack.cpuS(part) - before[index]) * 1e6) / count),
  };
}

const cpuFigures = (cpuUs, what, count = 1) =>
  Object.fromEntries(PARTS.map((part, index) => [`${part} CPU per ${what}, µs`, cpuUs[index] / count]));

/** Each returns numbers by name; names end with their unit. */
export const workloads = {
  async 'ten steps'(stack, scale) {
    const { perSecond, cpuUs } = await runs(stack, 'ten', 1_000 * scale, 200);
    return { 'steps/s': perSecond * 10, ...cpuFigures(cpuUs, 'step', 10) };
  },
  async 'one step'(stack, scale) {
    const { perSecond, cpuUs } = await runs(stack, 'one', 2_000 * scale, 200);
    return { 'runs/s': perSecond, ...cpuFigures(cpuUs, 'run') };
  },
  async serial(stack) {
    const times = await stack.client.execute('timed', 200, { taskQueue });
    const steps = times.slice(1).map((time, index) => time - times[index]);
    return { 'per step p50, ms': quantile(steps, 0.5), 'per step p99, ms': quantile(steps, 0.99) };
  },
  /** Runs of ten steps, one after the other: start and end included. */
  async alone(stack) {
    const times = [];
    for (let n = 0; n < 60; n++) {
      const beganMs = now();
      await stack.client.execute('ten', undefined, { taskQueue });
      times.push((now() - beganMs) / 10);
    }
    return { 'one run alone, per step p50, ms': quantile(times, 0.5) };
  },
  async start(stack) {
    const waits = [];
    for (let n = 0; n < 50; n++) {
      await delay(20);
      const beganMs = now();
      const [first] = await stack.client.execute('timed', 0, { taskQueue });
      waits.push(first - beganMs);
    }
    return {
      'start to first step p50, ms': quantile(waits, 0.5),
      'start to first step p99, ms': quantile(waits, 0.99),
    };
  },
  /** What is written to PostgreSQL's log for each step. */
  async 'bytes per step'(stack, scale) {
    const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => undefined });
    const position = async () => (await sql`select pg_current_wal_lsn() - '0/0'::pg_lsn as bytes`)[0].bytes;
    await sql`checkpoint`;
    await runs(stack, 'ten', 200, 100);
    const before = await position();
    await runs(stack, 'ten', 500 * scale, 200);
    const bytes = Number(await position()) - Number(before);
    await sql.end();
    return { 'WAL per step, its share of the run included, bytes': bytes / (5_000 * scale) };
  },
  ...messages,
  ...fanout,
  async sleepers(stack, scale) {
    const beginMs = Date.now() + 3_000;
    const starts = Array.from({ length: 1_000 * scale }, (_, n) => ({ input: beginMs + n, options: { taskQueue } }));
    const handles = await stack.client.startMany('nap', starts);
    const late = await Promise.all(handles.map((handle) => handle.result()));
    return { 'late p50, ms': quantile(late, 0.5), 'late p99, ms': quantile(late, 0.99) };
  },
  async 'group commit limit'(stack) {
    return { ...(await bareLimit(stack.databaseUrl)), ...(await ownLimit(stack.databaseUrl)) };
  },
  /** Memory of runs that sleep, beyond what the worker keeps of 100 of them to go on without a replay. */
  async suspended(stack, scale) {
    const start = async (count) => {
      const starts = Array.from({ length: count }, () => ({ input: Date.now() + 3_600_000, options: { taskQueue } }));
      const handles = await stack.client.startMany('nap', starts);
      const sql = postgres(stack.databaseUrl, { max: 1, onnotice: () => undefined });
      for (let sleeping = 0; sleeping < count; await delay(50)) {
        [{ sleeping }] = await sql`select count(*)::int as sleeping from perdure.workflow_runs
          where run_id = any(${handles.map(({ runId }) => runId)}) and status = 'SLEEPING'`;
      }
      await sql.end();
      return handles;
    };
    const handles = await start(10_000);
    await delay(1_000);
    const parts = ['server', 'worker'];
    const before = parts.map(stack.memoryBytes);
    handles.push(...(await start(10_000 * scale)));
    await delay(1_000);
    const grown = parts.map((part, index) => (stack.memoryBytes(part) - before[index]) / (10_000 * scale));
    await Promise.all(handles.map((handle) => handle.terminate()));
    return Object.fromEntries(parts.map((part, index) => [`${part} memory per suspended run, bytes`, grown[index]]));
  },
  async idle(stack) {
    await delay(3_000);
    const parts = ['server', 'reaper', 'worker'];
    const before = parts.map(stack.cpuS);
    await delay(15_000);
    return Object.fromEntries(
      parts.map((part, index) => [`${part} CPU, %`, ((stack.cpuS(part) - before[index]) / 15) * 100]),
    );
  },
};
