// Starts the parts as production has them: PostgreSQL, a server, a reaper and a worker, each a process of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startEmbeddedPostgres } from '@perdure/embedded-postgres';
import { migrate } from '@perdure/store';
import { Client } from '@perdure/worker-sdk';

const CLI = fileURLToPath(new URL('../../packages/cli/dist/main.js', import.meta.url));
const WORKER = fileURLToPath(new URL('./worker.mjs', import.meta.url));
export const TASK_QUEUE = 'bench';
/** A larger young generation: what is in flight at one time ends before it is copied. As docs/operations.md has it. */
export const NODE_FLAGS = ['--max-semi-space-size=32', '--min-semi-space-size=32'];

function freePort() {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

/**
 * @param options.profile folder for CPU profiles of server, reaper and worker
 * @param options.node program that executes them; default: the one that executes this
 */
export async function startStack({ profile, node = process.execPath } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'perdure-bench-'));
  chmodSync(folder, 0o711);
  const given = process.env.BENCH_DATABASE_URL;
  const postgres = given === undefined ? await startEmbeddedPostgres({ folder: join(folder, 'postgres') }) : undefined;
  const databaseUrl = given ?? postgres.url;
  await migrate({ url: databaseUrl });
  const address = `127.0.0.1:${await freePort()}`;
  const env = { ...process.env, DATABASE_URL: databaseUrl, PERDURE_ADDRESS: address, PERDURE_LOG_LEVEL: 'error' };
  const start = (name, ...args) => {
    const flags =
      profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`, `--cpu-prof-name=${name}.cpuprofile`];
    return spawn(node, [...NODE_FLAGS, ...flags, ...args], { env, stdio: ['ignore', 'inherit', 'inherit'] });
  };
  const server = start(
    'server',
    CLI,
    'server',
    '--grpc-port',
    address.split(':')[1],
    '--http-port',
    String(await freePort()),
  );
  const reaper = start('reaper', CLI, 'reaper');
  const client = new Client({ address });
  await client.list().next();
  const worker = start('worker', WORKER);
  // Until it has registered.
  await client.execute('one', undefined, { taskQueue: TASK_QUEUE });
  const processes = { server, reaper, worker };
  return {
    client,
    address,
    databaseUrl,
    processes,
    /** CPU seconds that a part has used: server, reaper, worker, client (this process) or postgres. */
    cpuS(name) {
      if (name === 'client') return (process.cpuUsage().user + process.cpuUsage().system) / 1e6;
      return name === 'postgres' ? postgresCpuS(databaseUrl) : cpuSeconds(processes[name].pid);
    },
    /** Resident memory of a part, in bytes. */
    memoryBytes: (name) =>
      1024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${processes[name].pid}/status`, 'utf8'))[1]),
    async stop() {
      client.close();
      worker.kill('SIGTERM');
      await once(worker, 'exit');
      for (const child of [server, reaper]) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      await postgres?.stop();
      await delay(10);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Of all processes of the PostgreSQL that listens on the URL's port; those that have ended included. */
function postgresCpuS(url) {
  const { port } = new URL(url);
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const statOf = (pid) => {
    try {
      const [, name, rest] = /\((.*)\) (.*)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'));
      return name === 'postgres' ? { pid, fields: rest.split(' ') } : undefined;
    } catch {
      return undefined;
    }
  };
  const listens = ({ pid }) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return words.some((word, at) => word === '-p' && words[at + 1] === port);
    } catch {
      // It has ended meanwhile.
      return false;
    }
  };
  const stats = processes.map(statOf).filter((stat) => stat !== undefined);
  const master = stats.find(listens);
  if (master === undefined) return Number.NaN;
  const mine = stats.filter(({ pid, fields }) => pid === master.pid || fields[1] === master.pid);
  const ticks = mine.reduce((sum, { fields }) => sum + Number(fields[11]) + Number(fields[12]), 0);
  return (ticks + Number(master.fields[13]) + Number(master.fields[14])) / 100;
}
