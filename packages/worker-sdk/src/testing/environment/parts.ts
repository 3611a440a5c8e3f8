import { createLogger } from '@perdure/logging';
import type { Logger } from 'pino';
import { loadConfigPart, loadReaper, loadServer, loadStore } from '../parts/parts.js';
import { sharedPostgres } from '../parts/shared-postgres.js';
import type { TestTime } from '../time/test-time.js';

/** A server and a reaper on a database of their own. */
export interface RunningParts {
  /** `host:port` of the server, for workers and clients. */
  readonly address: string;
  /** Connection string of the database of the environment. */
  readonly databaseUrl: string;
  readonly time: TestTime;
  readonly log: Logger;
  stop(): Promise<void>;
}

/** Starts the parts of a test environment; what was started is stopped again when one of them does not start. */
export async function startParts(databaseUrl: string | undefined, logger: Logger | undefined): Promise<RunningParts> {
  const [{ loadConfig }, server, reaper, store] = await Promise.all([
    loadConfigPart(),
    loadServer(),
    loadReaper(),
    loadStore(),
  ]);
  const log = logger ?? createLogger({ level: 'silent' });
  const undo: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step();
  };
  try {
    const postgres = await sharedPostgres(databaseUrl ?? (process.env.DATABASE_URL || undefined));
    undo.push(() => postgres.release());
    const database = await store.createTestDatabase(postgres.url);
    undo.push(() => database.drop());
    const flags = { databaseUrl: database.url, logLevel: 'silent' };
    const serverConfig = loadConfig(server.serverOptions, { env: {}, flags: { ...flags, grpcPort: 0, httpPort: 0 } });
    // Few connections: many environments share a PostgreSQL.
    const small = { maxConnections: 6, maxReadConnections: 2, drainMs: 500 };
    const running = await server.startServer({ ...serverConfig, ...small }, { logger: log });
    undo.push(() => running.stop());
    const reaperConfig = loadConfig(reaper.reaperOptions, { env: {}, flags });
    // The kit wakes sleepers itself, and tells the reaper of deadlines.
    const quick = { maxSleepMs: 500, serverGraceMs: 0, reclaimBackoffMs: 0, maxReclaimBackoffMs: 0 };
    const reaping = reaper.startReaper({ ...reaperConfig, ...quick }, { logger: log });
    undo.push(() => reaping.stop());
    const time = store.openTestTime(database.url, (queues) => running.wake(queues));
    undo.push(() => time.close());
    return { address: running.grpcAddress, databaseUrl: database.url, time, log, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
