import { setMaxListeners } from 'node:events';
import { hostname } from 'node:os';
import { createLogger } from '@perdure/logging';
import { AdminService, WorkerService, WorkflowService } from '@perdure/proto';
import {
  announceServer,
  type Database,
  newSenderId,
  openDatabase,
  type QueueRef,
  readDatabaseFacts,
  retireServer,
  waitForDatabase,
} from '@perdure/store';
import type { Logger } from 'pino';
import { BulkRunner } from './bulk/bulk-runner.js';
import { bindService } from './call/handlers.js';
import { type Commands, createCommands } from './commands/commands.js';
import type { ServerConfig } from './config.js';
import type { ServerContext } from './context.js';
import { DatabaseWatch } from './database-watch.js';
import { AnswerWaiters } from './dispatch/answer-waiters.js';
import { Dispatcher } from './dispatch/dispatcher.js';
import { EndWaiters } from './dispatch/end-waiters.js';
import { Notices } from './dispatch/notices.js';
import { Notifier } from './dispatch/notifier.js';
import { Registrations } from './dispatch/registrations.js';
import { Wakeups } from './dispatch/wakeups.js';
import { ReadPool } from './reads/read-pool.js';
import { adminService } from './services/admin-service.js';
import { workerService } from './services/worker-service.js';
import { workflowService } from './services/workflow-service.js';
import { checkPort, portTaken } from './transport/check-port.js';
import { hostPort, startGrpcServer } from './transport/grpc-server.js';
import { startHttpServer } from './transport/http-server.js';
import { withPromises } from './transport/promise-routes.js';

/** A running server. */
export interface Server {
  /** Identifies this server among those of the database. */
  readonly serverId: string;
  /** `host:port` */
  readonly grpcAddress: string;
  /** `host:port` */
  readonly httpAddress: string;
  /** Runs of these queues have become claimable by a statement that this process has committed; other servers are not told. */
  wake(queues: readonly QueueRef[]): void;
  /** Ends polls and waits, waits for open calls, then ends all connections. */
  stop(): Promise<void>;
}

/** How often a server announces that it is alive, in ms. */
const ANNOUNCE_MS = 2_000;

/** Options of {@link startServer} beside its configuration. */
export interface StartServerOptions {
  /** Default: pino to stdout with level `config.logLevel`. */
  readonly logger?: Logger;
  /** Ends the wait for the database; then the start fails with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * Starts a server. Any number may share a database; a server holds no state, so it may be killed at any moment.
 *
 * @throws {DatabaseNotReadyError} when the database cannot be reached or is not migrated within `databaseWaitMs`
 * @throws {PortTakenError}
 */
export async function startServer(config: ServerConfig, options: StartServerOptions = {}): Promise<Server> {
  const log = options.logger ?? createLogger({ name: 'perdure-server', level: config.logLevel });
  const serverId = newSenderId();
  await checkPort(config.host, config.grpcPort);
  await checkPort(config.host, config.httpPort);
  let watch: DatabaseWatch | undefined;
  const connect = {
    url: config.databaseUrl,
    preparedStatements: config.preparedStatements,
    startupParameters: config.startupParameters,
    queryTimeoutMs: config.queryTimeoutMs,
    onUnavailable: (error: Error) => watch?.suspect(error),
  };
  const db = openDatabase({ ...connect, maxConnections: config.maxConnections, applicationName: 'perdure-server' });
  const readDb = openDatabase({
    ...connect,
    maxConnections: config.maxReadConnections,
    statementTimeoutMs: config.readTimeoutMs,
    applicationName: 'perdure-server-reads',
  });
  const bulkDb = openDatabase({
    ...connect,
    maxConnections: 1,
    maxTransactions: 1,
    applicationName: 'perdure-server-bulk',
  });
  const closeDatabases = async () => {
    await Promise.all([db.close(), readDb.close(), bulkDb.close()]);
  };
  try {
    await databaseReady(db, config, log, options.signal);
    return await serve({ config, log, db, readDb, bulkDb, serverId, closeDatabases }, (created) => {
      watch = created;
    });
  } catch (error) {
    await closeDatabases();
    throw error;
  }
}

interface Foundation {
  readonly config: ServerConfig;
  readonly log: Logger;
  readonly db: Database;
  readonly readDb: Database;
  readonly bulkDb: Database;
  readonly serverId: string;
  readonly closeDatabases: () => Promise<void>;
}

async function serve(
  { config, log, db, readDb, bulkDb, serverId, closeDatabases }: Foundation,
  onWatch: (watch: DatabaseWatch) => void,
): Promise<Server> {
  const stopping = new AbortController();
  // Every waiting call adds a listener.
  setMaxListeners(0, stopping.signal);
  const notifier = config.wakeup === 'notify' ? new Notifier(db, log, serverId) : undefined;
  const endWaiters = new EndWaiters(db, log, config.pollFallbackMs);
  const answerWaiters = new AnswerWaiters(db, log, config.pollFallbackMs);
  const dispatcher = new Dispatcher({
    db,
    pollFallbackMs: config.pollFallbackMs,
    maxWaitingPolls: config.maxWaitingPolls,
    onUndeliverable: ({ run }) => {
      const lease = { namespace: run.namespace, runId: run.runId, leaseToken: run.leaseToken };
      commands
        .releaseRun({ ...lease, delayMs: 0, reason: 'The poll that it was claimed for had gone.' })
        .catch((error) =>
          // Its lease will expire, and the reaper will reclaim it.
          log.warn({ event: 'release_failed', runId: run.runId, err: error }),
        );
    },
  });
  const notices = new Notices();
  const wakeups = new Wakeups({ db, log, serverId, dispatcher, endWaiters, answerWaiters, notices, notifier });
  const commands: Commands = createCommands({
    db,
    log,
    wakeups,
    dispatcher,
    stopping: stopping.signal,
    maxQueued: config.maxQueuedCommands,
    maxQueuedBytes: config.maxQueuedBytes,
  });
  const identity = `${hostname()}:${process.pid}`;
  const bulk = new BulkRunner({
    db,
    chunkDb: bulkDb,
    log,
    identity,
    maxUnconsumedSignals: config.maxUnconsumedSignals,
    apply: (effect) => commands.apply(effect),
  });
  const context: ServerContext = {
    config,
    log,
    db,
    reads: new ReadPool({ db: readDb, maxReads: config.maxReadConnections, maxQueued: config.maxQueuedReads }),
    commands,
    bulk,
    dispatcher,
    endWaiters,
    answerWaiters,
    notices,
    wakeups,
    registrations: new Registrations(db),
    serverId,
    startedAt: new Date(),
    stopping: stopping.signal,
  };
  const bindings = [
    bindService(WorkflowService, workflowService(context)),
    bindService(WorkerService, workerService(context)),
    bindService(AdminService, adminService(context)),
  ];

  let onAvailable: (available: boolean) => void = () => undefined;
  const watch = new DatabaseWatch({
    log,
    periodMs: ANNOUNCE_MS,
    // The announcement proves what a server needs: an answer, the schema, and the right to write.
    probe: async () => {
      const { servers } = await announceServer(db, { serverId, identity });
      wakeups.setPeers(servers > 1);
    },
    onChange: (available) => onAvailable(available),
  });
  onWatch(watch);
  await watch.start();
  bulk.start();

  let watchStopped: Promise<unknown> | undefined;
  const stopWaiting = async () => {
    stopping.abort();
    watchStopped = Promise.all([watch.stop(), bulk.stop()]);
    dispatcher.stop();
    endWaiters.stop();
    answerWaiters.stop();
    notices.stop();
    await wakeups.stop();
  };
  const shared = { host: config.host, maxFrameBytes: config.maxFrameBytes, bindings, log };
  try {
    const grpcServer = await startGrpcServer({ ...shared, port: config.grpcPort }).catch((error) => {
      throw portTaken(config.host, config.grpcPort, error);
    });
    const notReady = () => {
      if (stopping.signal.aborted) return 'The server is shutting down.';
      return watch.available ? undefined : 'The database is unavailable.';
    };
    const httpServer = await startHttpServer({
      ...shared,
      port: config.httpPort,
      notReady,
      withRoutes: (next) => withPromises(context, next),
    }).catch(async (error) => {
      await grpcServer.stop(0);
      throw portTaken(config.host, config.httpPort, error);
    });
    onAvailable = (available) => grpcServer.setServing(available);
    onAvailable(watch.available);
    const server: Server = {
      serverId,
      grpcAddress: hostPort(config.host, grpcServer.port),
      httpAddress: hostPort(config.host, httpServer.port),
      wake(queues) {
        for (const queue of queues) dispatcher.wake(queue);
      },
      async stop() {
        log.info({ event: 'server_stopping' });
        grpcServer.setServing(false);
        await stopWaiting();
        await Promise.all([grpcServer.stop(config.drainMs), httpServer.stop(config.drainMs)]);
        await watchStopped;
        await retireServer(db, serverId).catch((error) => log.warn({ event: 'retire_failed', err: error }));
        await closeDatabases();
        log.info({ event: 'server_stopped' });
      },
    };
    log.info({ event: 'server_started', serverId, grpc: server.grpcAddress, http: server.httpAddress });
    return server;
  } catch (error) {
    await stopWaiting();
    throw error;
  }
}

/** Waits for the database, and logs an error when it may lose acknowledged writes. */
async function databaseReady(db: Database, config: ServerConfig, log: Logger, signal?: AbortSignal): Promise<void> {
  await waitForDatabase(db, {
    waitMs: config.databaseWaitMs,
    onWaiting: ({ message }) => log.warn({ event: 'waiting_for_database', message }),
    ...(signal === undefined ? {} : { signal }),
  });
  const facts = await readDatabaseFacts(db);
  if (!facts.fsync || !facts.synchronousCommit) {
    log.error({
      event: 'database_not_durable',
      message:
        'PostgreSQL runs with fsync or synchronous_commit off: acknowledged writes may be lost in a crash. Turn both on.',
    });
  }
}
