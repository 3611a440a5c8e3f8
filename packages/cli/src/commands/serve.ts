/** The commands that run something: dev, server, reaper, migrate. */
import { addOptionsTo, flagValues, loadConfig } from '@perdure/config';
import { reaperOptions, reaperRelations, startReaper } from '@perdure/reaper';
import { serverOptions, serverRelations, startServer } from '@perdure/server';
import { DatabaseUnavailableError, LATEST_SCHEMA_VERSION, migrate } from '@perdure/store';
import type { Command } from 'commander';
import pc from 'picocolors';
import { type Dev, defaultDataFolder, startDev } from '../dev/dev.js';
import { CliError, EXIT } from '../exit-codes.js';
import { fieldsText, write } from '../output/print.js';
import { integerArgument } from './arguments.js';

export function addServeCommands(program: Command): void {
  addDev(program);

  addOptionsTo(program.command('server'), serverOptions)
    .description('run a server')
    .action(async (options: Record<string, unknown>) => {
      const flags = flagValues(serverOptions, options);
      const config = loadConfig(serverOptions, { env: process.env, flags, relations: serverRelations });
      const interruption = new AbortController();
      // From the beginning: a server that still waits for its database ends cleanly too.
      const signalled = untilSignal().then(() => interruption.abort());
      const server = await startServer(config, { signal: interruption.signal }).catch((error: unknown) => {
        if (interruption.signal.aborted) return undefined;
        throw error;
      });
      if (server === undefined) return;
      await signalled;
      await server.stop();
    });

  addOptionsTo(program.command('reaper'), reaperOptions)
    .description('run a reaper')
    .action(async (options: Record<string, unknown>) => {
      const flags = flagValues(reaperOptions, options);
      const reaper = startReaper(loadConfig(reaperOptions, { env: process.env, flags, relations: reaperRelations }));
      await untilSignal();
      await reaper.stop();
    });

  program
    .command('migrate')
    .description("bring the database's schema up to date")
    .option('--database-url <url>', 'connection string (env DATABASE_URL)')
    .action(async (options: { databaseUrl?: string }) => {
      const url = options.databaseUrl ?? process.env.DATABASE_URL;
      if (url === undefined || url === '') throw new CliError('Give --database-url, or set DATABASE_URL.', EXIT.usage);
      const onProgress = ({ version, name }: { version: number; name: string }) =>
        write(`Applying ${version} (${name})`);
      const { from, to } = await migrate({ url, onProgress }).catch((error: unknown) => {
        const why =
          error instanceof Error ? error.message || String((error as { code?: unknown }).code) : String(error);
        const unavailable =
          error instanceof DatabaseUnavailableError ||
          /ECONN|ENOTFOUND|CONNECT_TIMEOUT/.test(`${why}${(error as { code?: unknown }).code}`);
        throw new CliError(`The database could not be migrated: ${why}`, unavailable ? EXIT.unavailable : EXIT.failed);
      });
      if (to > LATEST_SCHEMA_VERSION) {
        write(
          `The database has schema version ${to}, newer than this build's ${LATEST_SCHEMA_VERSION}. Nothing was changed.`,
        );
      } else
        write(
          from === to ? `The schema is up to date (version ${to}).` : `The schema went from version ${from} to ${to}.`,
        );
    });
}

interface DevFlags {
  readonly dataFolder?: string;
  readonly ephemeral?: boolean;
  readonly databaseUrl?: string;
  readonly port?: number;
  readonly httpPort?: number;
  readonly logLevel?: string;
}

function addDev(program: Command): void {
  program
    .command('dev')
    .description('run server, reaper and an embedded PostgreSQL on this machine')
    .option('--data-folder <path>', `where data and logs are kept (default ${defaultDataFolder()})`)
    .option('--ephemeral', 'keep nothing')
    .option('--database-url <url>', 'use this database instead of an embedded one')
    .option('-p, --port <port>', 'port for gRPC (default 7300, or the next free one)', integerArgument)
    .option('--http-port <port>', 'port for HTTP (default 7301, or the next free one)', integerArgument)
    .option('--log-level <level>', 'least severe log lines to write (default info)')
    .action(async ({ port, ...options }: DevFlags) => {
      const dev = await startDev({
        ...options,
        ...(port === undefined ? {} : { grpcPort: port }),
        onProgress: (what) => process.stderr.write(`${pc.dim(`${what} …`)}\n`),
      });
      write(devText(dev));
      await untilSignal();
      process.stderr.write(`${pc.dim('Stopping …')}\n`);
      await dev.stop();
    });
}

/** What `perdure dev` prints once it runs. */
export function devText(dev: Dev): string {
  return [
    '',
    pc.bold(`Perdure ${dev.version} is running.`),
    '',
    fieldsText([
      ['gRPC', dev.grpcAddress],
      ['HTTP', `http://${dev.httpAddress}`],
      ['data', dev.dataFolder],
      ['log', dev.logFile],
    ]),
    ...dev.notes.map((note) => pc.yellow(note)),
    '',
    pc.dim('Start a worker, then: perdure run start <workflow> --task-queue <queue>. Ctrl-C stops; data is kept.'),
  ].join('\n');
}

/** Resolves with the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    const onSignal = () => {
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
      process.once('SIGINT', () => process.exit(EXIT.interrupted));
      process.once('SIGTERM', () => process.exit(EXIT.interrupted));
      resolve();
    };
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
  });
}
