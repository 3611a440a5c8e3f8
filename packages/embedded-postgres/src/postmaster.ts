import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Account } from './account.js';
import { EmbeddedPostgresError } from './embedded-postgres-error.js';

/** Long, because recovery after a crash may replay much. */
const START_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 15_000;
const LOOK_MS = 10;

export interface PostmasterOptions {
  readonly program: string;
  readonly folder: string;
  readonly account: Account | undefined;
  readonly port: number;
  readonly settings: Readonly<Record<string, string>>;
}

/** Starts the server and waits until it takes connections. */
export async function startPostmaster(options: PostmasterOptions): Promise<ChildProcess> {
  const { program, folder, account, port } = options;
  const dataFolder = join(folder, 'data');
  const logFile = join(folder, 'postgres.log');
  const log = openSync(logFile, 'a', 0o600);
  const settings = { listen_addresses: '127.0.0.1', unix_socket_directories: '', ...options.settings };
  // Its own process group: Ctrl-C reaches this process only, which stops the server after its clients.
  const child = spawn(
    program,
    [
      '-D',
      dataFolder,
      '-p',
      String(port),
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    {
      detached: process.platform !== 'win32',
      stdio: ['ignore', log, log],
      env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' },
      ...(account === undefined ? {} : { uid: account.uid, gid: account.gid, cwd: '/' }),
    },
  );
  closeSync(log);
  if (account !== undefined) chownSync(logFile, account.uid, account.gid);
  let ended: string | undefined;
  child.once('error', (error) => {
    ended = error.message;
  });
  child.once('exit', (code, signal) => {
    ended ??= `it ended with ${signal ?? `code ${code}`}`;
  });
  const untilMs = performance.now() + START_TIMEOUT_MS;
  while (readPid(dataFolder)?.pid !== child.pid || !isReady(dataFolder)) {
    if (ended !== undefined || performance.now() > untilMs) {
      if (ended === undefined) child.kill('SIGKILL');
      throw new EmbeddedPostgresError(
        'not_started',
        `PostgreSQL did not start: ${ended ?? 'it was not ready within 120 s'}. The end of ${logFile}:\n${tail(logFile)}`,
      );
    }
    await delay(LOOK_MS);
  }
  child.unref();
  return child;
}

/** Ends the server: clients are disconnected, committed data is kept. */
export async function stopPostmaster(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.ref();
  const exited = once(child, 'exit');
  child.kill('SIGINT');
  const timer = setTimeout(() => child.kill('SIGQUIT'), STOP_TIMEOUT_MS);
  await exited;
  clearTimeout(timer);
}

/**
 * Ends a server that a killed process has left behind.
 *
 * @returns whether there was one
 */
export async function stopOrphan(folder: string): Promise<boolean> {
  const dataFolder = join(folder, 'data');
  const found = readPid(dataFolder);
  if (found === undefined || !isPostgresOf(found.pid, dataFolder)) return false;
  process.kill(found.pid, 'SIGINT');
  const untilMs = performance.now() + STOP_TIMEOUT_MS;
  while (isPostgresOf(found.pid, dataFolder)) {
    if (performance.now() > untilMs) process.kill(found.pid, 'SIGQUIT');
    await delay(LOOK_MS);
  }
  rmSync(join(dataFolder, 'postmaster.pid'), { force: true });
  return true;
}

/** The server's pid file: line 1 is its pid, line 8 its state. */
function readPid(dataFolder: string): { readonly pid: number; readonly state: string } | undefined {
  try {
    const lines = readFileSync(join(dataFolder, 'postmaster.pid'), 'utf8').split('\n');
    const pid = Number(lines[0]);
    return Number.isInteger(pid) && pid > 0 ? { pid, state: lines[7]?.trim() ?? '' } : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

const isReady = (dataFolder: string): boolean => readPid(dataFolder)?.state === 'ready';

/** The pid may now belong to another program, which must not be touched. */
function isPostgresOf(pid: number, dataFolder: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
  }
  try {
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return command.includes(dataFolder);
  } catch (error) {
    // Without /proc, trust the pid file.
    return (error as NodeJS.ErrnoException).code === 'ENOENT' && process.platform !== 'linux';
  }
}

function tail(file: string): string {
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-10).join('\n');
}
