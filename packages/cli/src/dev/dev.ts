import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { loadConfig } from '@perdure/config';
import { createLogger } from '@perdure/logging';
import { VERSION } from '../version.js';
import { choosePorts } from './choose-ports.js';
import { loadEmbeddedPostgres, loadReaper, loadServer, loadStore } from './parts.js';
import { withPlainFailures } from './start-failure.js';

/** Options of {@link startDev}; each is optional. */
export interface DevOptions {
  /** Where data and logs are kept; default {@link defaultDataFolder}. */
  readonly dataFolder?: string;
  /** Use a temporary folder and remove it at the end; default false. */
  readonly ephemeral?: boolean;
  /** Connection string of a database to use instead of an embedded one. */
  readonly databaseUrl?: string;
  /** Port for gRPC, 0 to 65535; 0: any free one. Default 7300, or the next free one. */
  readonly grpcPort?: number;
  /** Port for HTTP, 0 to 65535; 0: any free one. Default 7301, or the next free one. */
  readonly httpPort?: number;
  /** Least severe log lines to write, `trace` to `silent`; default `info`. */
  readonly logLevel?: string;
  /** Called with a description of each phase of the start. */
  readonly onProgress?: (what: string) => void;
}

/** A running Perdure, as {@link startDev} starts it. */
export interface Dev {
  /** Perdure's version. */
  readonly version: string;
  /** `host:port` for workers and clients. */
  readonly grpcAddress: string;
  /** `host:port` of the API over HTTP and of the health checks. */
  readonly httpAddress: string;
  /** Connection string of the database, with its password. */
  readonly databaseUrl: string;
  /** Main process of the embedded PostgreSQL; undefined with `databaseUrl`. */
  readonly postgresPid: number | undefined;
  /** Folder of data and log. */
  readonly dataFolder: string;
  /** Path of the log of server and reaper. */
  readonly logFile: string;
  /** Whether runs are still there after {@link Dev.stop}. */
  readonly keepsData: boolean;
  /** Names default ports that were taken. */
  readonly notes: readonly string[];
  /** Stops server, reaper and the embedded PostgreSQL; removes the data when {@link keepsData} is false. */
  stop(): Promise<void>;
}

/** Several may start at the same moment and choose the same port; one of them gets it. */
const PORT_TRIES = 10;

/** Root's PostgreSQL runs under another account, which cannot enter root's home. */
export function defaultDataFolder(): string {
  if (process.getuid?.() === 0) return '/var/lib/perdure';
  return join(process.env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'perdure');
}

/**
 * Server, reaper and PostgreSQL in one process, for work on one machine and for tests.
 *
 * @throws {CliError} with one plain sentence, when folder, port or database cannot be used or a part is not installed
 */
export function startDev(options: DevOptions = {}): Promise<Dev> {
  return withPlainFailures(() => start(options));
}

async function start(options: DevOptions): Promise<Dev> {
  const undo: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step();
  };
  try {
    const { checkPort } = await loadServer();
    for (const port of [options.grpcPort, options.httpPort]) if (port !== undefined) await checkPort('127.0.0.1', port);
    const dataFolder = makeDataFolder(options);
    if (options.ephemeral) undo.push(() => rmSync(dataFolder, { recursive: true, force: true }));
    const logFile = join(dataFolder, 'perdure.log');
    keepPrivate(logFile);
    const { databaseUrl, postgresPid } = await openDatabase(options, dataFolder, undo);
    options.onProgress?.('Bringing the schema up to date');
    await (await loadStore()).migrate({ url: databaseUrl });

    const level = options.logLevel ?? 'info';
    const logger = createLogger({ level, file: logFile });
    options.onProgress?.('Starting server and reaper');
    const { server, notes } = await startServer(options, databaseUrl, logger.child({ name: 'perdure-server' }));
    undo.push(() => server.stop());
    const { reaperOptions, reaperRelations, startReaper } = await loadReaper();
    const flags = { databaseUrl, logLevel: options.logLevel };
    const reaper = startReaper(loadConfig(reaperOptions, { env: process.env, flags, relations: reaperRelations }), {
      logger: logger.child({ name: 'perdure-reaper' }),
    });
    undo.push(() => reaper.stop());
    const { grpcAddress, httpAddress } = server;
    const keepsData = options.databaseUrl !== undefined || options.ephemeral !== true;
    return {
      version: VERSION,
      grpcAddress,
      httpAddress,
      databaseUrl,
      postgresPid,
      dataFolder,
      logFile,
      keepsData,
      notes,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function makeDataFolder(options: DevOptions): string {
  if (options.ephemeral) {
    const folder = mkdtempSync(join(tmpdir(), 'perdure-'));
    // Root's PostgreSQL runs under another account, which must get through to its own folder below.
    chmodSync(folder, 0o711);
    return folder;
  }
  const folder = resolve(options.dataFolder ?? defaultDataFolder());
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Logs name workflows and ids, which are nobody else's business. One of an earlier version may be open to all. */
function keepPrivate(file: string): void {
  closeSync(openSync(file, 'a', 0o600));
  chmodSync(file, 0o600);
}

async function openDatabase(
  options: DevOptions,
  dataFolder: string,
  undo: (() => Promise<void> | void)[],
): Promise<{ readonly databaseUrl: string; readonly postgresPid: number | undefined }> {
  if (options.databaseUrl !== undefined) return { databaseUrl: options.databaseUrl, postgresPid: undefined };
  const { startEmbeddedPostgres } = await loadEmbeddedPostgres();
  const postgres = await startEmbeddedPostgres({
    folder: join(dataFolder, 'postgres'),
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
  });
  undo.push(() => postgres.stop());
  return { databaseUrl: postgres.url, postgresPid: postgres.pid };
}

async function startServer(options: DevOptions, databaseUrl: string, logger: ReturnType<typeof createLogger>) {
  const { PortTakenError, serverOptions, serverRelations, startServer } = await loadServer();
  for (let tries = 1; ; tries++) {
    const { grpcPort, httpPort, notes } = await choosePorts(options);
    const flags = { databaseUrl, grpcPort, httpPort, logLevel: options.logLevel };
    const config = loadConfig(serverOptions, { env: process.env, flags, relations: serverRelations });
    try {
      return { server: await startServer(config, { logger }), notes };
    } catch (error) {
      const wasGiven =
        error instanceof PortTakenError && (error.port === options.grpcPort || error.port === options.httpPort);
      if (!(error instanceof PortTakenError) || wasGiven || tries >= PORT_TRIES) throw error;
    }
  }
}
