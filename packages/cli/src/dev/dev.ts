import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { loadConfig } from '@perdure/config';
import { startEmbeddedPostgres } from '@perdure/embedded-postgres';
import { reaperOptions, reaperRelations, startReaper } from '@perdure/reaper';
import { serverOptions, serverRelations, startServer, VERSION } from '@perdure/server';
import { migrate } from '@perdure/store';
import { destination, pino } from 'pino';
import { freePort } from './free-port.js';

export interface DevOptions {
  /** Where data and logs are kept; default {@link defaultDataFolder}. */
  readonly dataFolder?: string;
  /** Keep nothing: a temporary folder, removed at the end. */
  readonly ephemeral?: boolean;
  /** Use this database instead of an embedded one. */
  readonly databaseUrl?: string;
  /** Default 7300; the next free one when taken, unless given. */
  readonly grpcPort?: number;
  /** Default 7301; the next free one when taken, unless given. */
  readonly httpPort?: number;
  /** Default `info`. */
  readonly logLevel?: string;
  /** Called with what is being done. */
  readonly onProgress?: (what: string) => void;
}

export interface Dev {
  readonly version: string;
  readonly grpcAddress: string;
  readonly httpAddress: string;
  readonly databaseUrl: string;
  /** Main process of the embedded PostgreSQL; undefined with a database of one's own. */
  readonly postgresPid: number | undefined;
  readonly dataFolder: string;
  readonly logFile: string;
  /** Ports that were taken, for people. */
  readonly notes: readonly string[];
  stop(): Promise<void>;
}

const DEFAULT_GRPC_PORT = 7300;
const DEFAULT_HTTP_PORT = 7301;

/** Root's PostgreSQL runs under another account, which cannot enter root's home. */
export function defaultDataFolder(): string {
  if (process.getuid?.() === 0) return '/var/lib/perdure';
  return join(process.env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'perdure');
}

/** Server, reaper and PostgreSQL in one process, for work on one machine. */
export async function startDev(options: DevOptions = {}): Promise<Dev> {
  const dataFolder = options.ephemeral
    ? mkdtempSync(join(tmpdir(), 'perdure-'))
    : resolve(options.dataFolder ?? defaultDataFolder());
  mkdirSync(dataFolder, { recursive: true });
  // Root's PostgreSQL runs under another account, which must get through to its own folder below.
  if (options.ephemeral) chmodSync(dataFolder, 0o711);
  const logFile = join(dataFolder, 'perdure.log');
  const undo: (() => Promise<void> | void)[] = [];
  if (options.ephemeral) undo.push(() => rmSync(dataFolder, { recursive: true, force: true }));
  const stop = async () => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step();
  };
  try {
    const notes: string[] = [];
    const postgres =
      options.databaseUrl === undefined
        ? await startEmbeddedPostgres({
            folder: join(dataFolder, 'postgres'),
            ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
          })
        : undefined;
    if (postgres !== undefined) undo.push(() => postgres.stop());
    const databaseUrl = options.databaseUrl ?? (postgres?.url as string);
    options.onProgress?.('Bringing the schema up to date');
    await migrate({ url: databaseUrl });

    const port = async (given: number | undefined, preferred: number, what: string): Promise<number> => {
      if (given !== undefined) return given;
      const chosen = await freePort(preferred);
      if (chosen !== preferred) notes.push(`Port ${preferred} is taken; ${what} uses ${chosen}.`);
      return chosen;
    };
    const grpcPort = await port(options.grpcPort, DEFAULT_GRPC_PORT, 'gRPC');
    const httpPort = await port(options.httpPort, DEFAULT_HTTP_PORT, 'HTTP');
    const flags = { databaseUrl, grpcPort, httpPort, logLevel: options.logLevel };
    const level = options.logLevel ?? 'info';
    const logger = pino({ level }, destination({ dest: logFile, sync: false, mkdir: true }));
    options.onProgress?.('Starting server and reaper');
    const server = await startServer(
      loadConfig(serverOptions, { env: process.env, flags, relations: serverRelations }),
      {
        logger: logger.child({ name: 'perdure-server' }),
      },
    );
    undo.push(() => server.stop());
    const reaper = startReaper(loadConfig(reaperOptions, { env: process.env, flags, relations: reaperRelations }), {
      logger: logger.child({ name: 'perdure-reaper' }),
    });
    undo.push(() => reaper.stop());
    return {
      version: VERSION,
      grpcAddress: server.grpcAddress,
      httpAddress: server.httpAddress,
      databaseUrl,
      postgresPid: postgres?.pid,
      dataFolder,
      logFile,
      notes,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
