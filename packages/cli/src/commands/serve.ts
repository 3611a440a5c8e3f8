/** The commands that run a part: server, reaper, migrate. */
import { addOptionsTo, flagValues, loadConfig, type Options } from '@perdure/config';
import type { Command } from 'commander';
import { loadReaper, loadServer, loadStore } from '../dev/parts.js';
import { withPlainFailures } from '../dev/start-failure.js';
import { untilSignal } from '../dev/until-signal.js';
import { CliError, EXIT } from '../exit-codes.js';
import { write } from '../output/print.js';
import { addDev } from './dev.js';

/** How long a reaper waits at its start for the schema, as a server does. */
const SCHEMA_WAIT_MS = 60_000;

export function addServeCommands(program: Command): void {
  addDev(program);

  addPart(
    program,
    'server',
    'run a server',
    async () => (await loadServer()).serverOptions,
    async (options, signal) => {
      const { serverOptions, serverRelations, startServer } = await loadServer();
      const flags = flagValues(serverOptions, options);
      const config = loadConfig(serverOptions, { env: process.env, flags, relations: serverRelations });
      return startServer(config, { signal });
    },
  );

  addPart(
    program,
    'reaper',
    'run a reaper',
    async () => (await loadReaper()).reaperOptions,
    async (options, signal) => {
      const { reaperOptions, reaperRelations, startReaper } = await loadReaper();
      const flags = flagValues(reaperOptions, options);
      const config = loadConfig(reaperOptions, { env: process.env, flags, relations: reaperRelations });
      await checkDatabase(config.databaseUrl, signal);
      return startReaper(config);
    },
  );

  program
    .command('migrate')
    .description("bring the database's schema up to date")
    .option('--database-url <url>', 'connection string (env DATABASE_URL)')
    .action((options: { databaseUrl?: string }) =>
      withPlainFailures(() => migrateDatabase(options.databaseUrl ?? process.env.DATABASE_URL)),
    );
}

/** Help and completion show the options of every part. */
const SHOW_OPTIONS = ['help', 'completion'];

interface Part {
  stop(): Promise<void>;
}

/** The options of a part are known when the part is loaded, which is only done for the commands that need them. */
function addPart(
  program: Command,
  name: string,
  description: string,
  loadOptions: () => Promise<Options>,
  start: (options: Record<string, unknown>, signal: AbortSignal) => Promise<Part>,
): void {
  const command = program.command(name).description(description);
  program.hook('preSubcommand', async (_, chosen) => {
    if (chosen === command) addOptionsTo(command, await loadOptions());
    // A part that is not installed has no options to show.
    else if (SHOW_OPTIONS.includes(chosen.name())) addOptionsTo(command, await loadOptions().catch(() => ({})));
  });
  command.action(async (options: Record<string, unknown>) => {
    const interruption = new AbortController();
    // From the beginning: a part that still waits for its database ends cleanly too.
    const signalled = untilSignal().then(() => interruption.abort());
    const part = await withPlainFailures(() => start(options, interruption.signal)).catch((error: unknown) => {
      if (interruption.signal.aborted) return undefined;
      throw error;
    });
    if (part === undefined) return;
    await signalled;
    await part.stop();
  });
}

/** A reaper outlives outages, so an unreachable database is no error here; one that refuses would do so forever. */
async function checkDatabase(databaseUrl: string, signal: AbortSignal): Promise<void> {
  const { DatabaseNotReadyError, openDatabase, waitForDatabase } = await loadStore();
  const db = openDatabase({ url: databaseUrl, maxConnections: 1, applicationName: 'perdure-reaper' });
  try {
    await waitForDatabase(db, {
      waitMs: SCHEMA_WAIT_MS,
      onWaiting: ({ message }) => process.stderr.write(`Waiting: ${message}\n`),
      signal,
    });
  } catch (error) {
    if (!(error instanceof DatabaseNotReadyError) || error.problem !== 'unavailable') throw error;
  } finally {
    await db.close();
  }
}

async function migrateDatabase(url: string | undefined): Promise<void> {
  if (url === undefined || url === '') throw new CliError('Give --database-url, or set DATABASE_URL.', EXIT.usage);
  const { LATEST_SCHEMA_VERSION, migrate } = await loadStore();
  const { from, to } = await migrate({
    url,
    onProgress: ({ version, name }) => write(`Applying ${version} (${name})`),
  });
  if (to > LATEST_SCHEMA_VERSION) {
    write(
      `The database has schema version ${to}, newer than this build's ${LATEST_SCHEMA_VERSION}. Nothing was changed.`,
    );
  } else if (from === to) write(`The schema is up to date (version ${to}).`);
  else write(`The schema went from version ${from} to ${to}.`);
}
