import type { ChildProcess } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { checkReachable, serverAccount } from './account.js';
import { findBinaries } from './binaries.js';
import { DATABASE, prepareCluster, SUPERUSER } from './cluster.js';
import { lockFolder } from './folder-lock.js';
import { type PostmasterOptions, startPostmaster, stopOrphan, stopPostmaster } from './postmaster.js';

const REMAINS_TIMEOUT_MS = 15_000;

export interface EmbeddedPostgresOptions {
  /** Folder of data, log, password and port. Made when missing. */
  readonly folder: string;
  /** Port on 127.0.0.1; default: the port used last in this folder when it is free, else any free port. */
  readonly port?: number;
  /** Settings as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Called with the present activity; the first start takes a second or two. */
  readonly onProgress?: (what: string) => void;
}

export interface EmbeddedPostgres {
  /** Connection string, with the password. */
  readonly url: string;
  readonly port: number;
  readonly folder: string;
  readonly logFile: string;
  /** Process id of the server's main process. */
  readonly pid: number;
  /** Whether the data folder was made by this start. */
  readonly created: boolean;
  /** Stops the server, keeps the data, releases the folder. */
  stop(): Promise<void>;
}

/**
 * Runs a real PostgreSQL for this process, on the loopback interface, from the binaries that npm has installed. This works as
 * root too: the server then runs under an unprivileged account. A server that a killed process left behind is ended first;
 * its committed data is kept.
 *
 * @throws {EmbeddedPostgresError} when the platform has no binaries, the folder is in use, or the server does not start
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const folder = resolve(options.folder);
  const account = serverAccount();
  const binaries = findBinaries(account);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (account !== undefined) {
    chownSync(folder, account.uid, account.gid);
    checkReachable(folder, account);
  }
  const unlock = lockFolder(folder);
  try {
    const created = !existsSync(join(folder, 'data', 'PG_VERSION'));
    if (created) options.onProgress?.('Making the data folder');
    if (await stopOrphan(folder)) options.onProgress?.('Stopped a PostgreSQL that a killed process had left behind');
    const password = prepareCluster(folder, binaries, account);
    const port = options.port ?? (await choosePort(folder));
    options.onProgress?.('Starting PostgreSQL');
    const settings = options.settings ?? {};
    const child = await startOverRemains({ program: binaries.postgres, folder, account, port, settings });
    writeFileSync(join(folder, 'port'), `${port}\n`);
    // For a process that ends without stopping the server, for example by an uncaught error.
    const onExit = () => child.kill('SIGINT');
    process.once('exit', onExit);
    return {
      url: `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/${DATABASE}`,
      port,
      folder,
      logFile: join(folder, 'postgres.log'),
      pid: child.pid as number,
      created,
      async stop() {
        await stopPostmaster(child);
        process.off('exit', onExit);
        unlock();
      },
    };
  } catch (error) {
    unlock();
    throw error;
  }
}

/** After a kill of the main process its backends notice it a little later; until then a new server refuses to start. */
async function startOverRemains(options: PostmasterOptions): Promise<ChildProcess> {
  for (const untilMs = performance.now() + REMAINS_TIMEOUT_MS; ; await delay(100)) {
    try {
      return await startPostmaster(options);
    } catch (error) {
      const isOver = performance.now() > untilMs;
      if (isOver || !(error instanceof Error) || !error.message.includes('pre-existing shared memory')) throw error;
    }
  }
}

async function choosePort(folder: string): Promise<number> {
  const file = join(folder, 'port');
  const last = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  return (last > 0 ? await freePort(last) : undefined) ?? (await freePort(0)) ?? 0;
}

/** @returns the port when it can be bound; any free port for 0 */
function freePort(port: number): Promise<number | undefined> {
  return new Promise((found) => {
    const probe = createServer();
    probe.once('error', () => found(undefined));
    probe.listen(port, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => found(typeof address === 'object' && address !== null ? address.port : undefined));
    });
  });
}
