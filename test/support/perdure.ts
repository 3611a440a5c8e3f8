import { loadConfig } from '@perdure/config';
import { AdminService, WorkerService, WorkflowService } from '@perdure/proto';
import { type Reaper, type ReaperConfig, reaperOptions, startReaper } from '@perdure/reaper';
import { type Server, type ServerConfig, serverOptions, startServer } from '@perdure/server';
import { Client, Connection, type ServiceClient, Worker, type WorkerOptions } from '@perdure/worker-sdk';
import { pino } from 'pino';
import { createDatabase, type TestDatabase } from './database.js';

export interface PerdureOptions {
  readonly server?: Partial<ServerConfig>;
  /** False: no reaper runs. */
  readonly reaper?: Partial<ReaperConfig> | false;
}

/** A server and a reaper in this process, on a database of their own, with everything to talk to them. */
export interface TestPerdure {
  readonly database: TestDatabase;
  readonly server: Server;
  readonly connection: Connection;
  readonly workflows: ServiceClient<typeof WorkflowService>;
  readonly workers: ServiceClient<typeof WorkerService>;
  readonly admin: ServiceClient<typeof AdminService>;
  readonly client: Client;
  startWorker(options: Omit<WorkerOptions, 'address'>): Promise<Worker>;
  startServer(config?: Partial<ServerConfig>): Promise<Server>;
  startReaper(config?: Partial<ReaperConfig>): Reaper;
  stop(): Promise<void>;
}

const silent = pino({ level: process.env.PERDURE_TEST_LOG ?? 'silent' });

export async function startPerdure(options: PerdureOptions = {}): Promise<TestPerdure> {
  const database = await createDatabase();
  const undo: (() => Promise<void>)[] = [() => database.drop()];
  const startTestServer = async (config: Partial<ServerConfig> = {}) => {
    const base = loadConfig(serverOptions, {
      env: {},
      flags: { databaseUrl: database.url, grpcPort: 0, httpPort: 0, logLevel: 'silent' },
    });
    const server = await startServer({ ...base, drainMs: 1_000, ...config }, { logger: silent });
    undo.push(() => server.stop());
    return server;
  };
  const startTestReaper = (config: Partial<ReaperConfig> = {}) => {
    const base = loadConfig(reaperOptions, { env: {}, flags: { databaseUrl: database.url, logLevel: 'silent' } });
    const reaper = startReaper({ ...base, serverGraceMs: 0, ...config }, { logger: silent });
    undo.push(() => reaper.stop());
    return reaper;
  };
  const server = await startTestServer(options.server);
  if (options.reaper !== false) startTestReaper(options.reaper);
  const connection = new Connection({ address: server.grpcAddress, session: process.env.PERDURE_TEST_UNARY !== '1' });
  undo.push(async () => connection.close());
  return {
    database,
    server,
    connection,
    workflows: connection.service(WorkflowService),
    workers: connection.service(WorkerService),
    admin: connection.service(AdminService),
    client: new Client({ connection }),
    async startWorker(workerOptions) {
      const worker = new Worker({
        logger: silent,
        handleSignals: false,
        shutdownGrace: 0,
        // Without, so that every sleep leads to a replay; one of the projects runs everything with.
        warmRuns: Number(process.env.PERDURE_TEST_WARM ?? 0),
        connection,
        ...workerOptions,
      });
      undo.push(() => worker.shutdown(0));
      await worker.start();
      return worker;
    },
    startServer: startTestServer,
    startReaper: startTestReaper,
    async stop() {
      for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step();
    },
  };
}
