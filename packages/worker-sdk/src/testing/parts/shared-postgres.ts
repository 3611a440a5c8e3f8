import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { keeperAddress } from './keeper-address.js';
import { loadEmbeddedPostgres } from './parts.js';

/** A PostgreSQL that this process may use. */
export interface SharedPostgres {
  /** Connection string of a database with the right to create others. */
  readonly url: string;
  /** This process no longer needs it. */
  release(): void;
}

const START_TIMEOUT_MS = 120_000;
const LOOK_MS = 20;

/**
 * The given PostgreSQL, or the embedded one that all test processes of this user and project share: the first of them starts it, and it
 * ends some seconds after the last one. A new one takes about two seconds, one that runs already a few milliseconds.
 *
 * @throws {Error} when it does not start, with what it said
 */
export async function sharedPostgres(databaseUrl: string | undefined): Promise<SharedPostgres> {
  if (databaseUrl !== undefined) return { url: databaseUrl, release: () => undefined };
  // Says what to install before a process is started that could not say it.
  await loadEmbeddedPostgres();
  const { folder, path } = keeperAddress();
  const log = join(folder, 'keeper.log');
  let keeper: Keeper | undefined;
  for (const untilMs = performance.now() + START_TIMEOUT_MS; ; await delay(LOOK_MS)) {
    const found = await connect(path);
    if (found !== undefined) return found;
    // One that is about to end lets go of the folder a moment later, so one that found it in use is followed by another.
    if (keeper === undefined || keeper.exitCode === 0) keeper = startKeeper(log);
    if ((keeper.exitCode ?? 0) !== 0 || performance.now() > untilMs) {
      throw new Error(`The embedded PostgreSQL for tests did not start.\n${readFileSync(log, 'utf8').slice(-2_000)}`);
    }
  }
}

interface Keeper {
  exitCode: number | undefined;
}

function startKeeper(log: string): Keeper {
  const output = openSync(log, 'w', 0o600);
  // Without what test runners give to their processes.
  const { NODE_OPTIONS: _, NODE_V8_COVERAGE: __, ...env } = process.env;
  const child = spawn(process.execPath, [fileURLToPath(new URL('./keeper.js', import.meta.url))], {
    detached: true,
    stdio: ['ignore', output, output],
    env,
  });
  closeSync(output);
  child.unref();
  const keeper: Keeper = { exitCode: undefined };
  child.once('exit', (code) => {
    keeper.exitCode = code ?? 1;
  });
  child.once('error', () => {
    keeper.exitCode = 1;
  });
  return keeper;
}

/** @returns undefined when nobody listens */
function connect(path: string): Promise<SharedPostgres | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    let text = '';
    socket.setEncoding('utf8');
    socket.on('error', () => resolve(undefined));
    socket.on('close', () => resolve(undefined));
    socket.on('data', (chunk: string) => {
      text += chunk;
      const end = text.indexOf('\n');
      if (end < 0) return;
      // It must not keep a process alive that has nothing else to do.
      socket.unref();
      resolve({ url: text.slice(0, end), release: () => socket.destroy() });
    });
  });
}
