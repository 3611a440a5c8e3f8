/**
 * The process that keeps one PostgreSQL for all test processes of a user and a project. It serves whoever is connected to its socket,
 * and ends some seconds after the last one has gone; a killed test process is gone as well. Its data is not durable, and is removed.
 */
import { rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { keeperAddress } from './keeper-address.js';
import { loadEmbeddedPostgres } from './parts.js';

/** How long it waits for the next test file, in ms. */
const IDLE_MS = 10_000;

/** Tests need no durability, and each test file several connections. */
const SETTINGS = {
  max_connections: '500',
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  autovacuum_naptime: '3s',
  max_wal_size: '4GB',
} as const;

const { folder, path } = keeperAddress();
const data = join(folder, 'postgres');

const { startEmbeddedPostgres } = await loadEmbeddedPostgres();
const start = () => startEmbeddedPostgres({ folder: data, settings: SETTINGS });
const postgres = await start().catch(async (error: unknown) => {
  // Another keeper was faster: whoever started this one finds it.
  if ((error as { problem?: string }).problem === 'folder_in_use') process.exit(0);
  // What a killed keeper has left behind is not durable, and may be broken.
  rmSync(data, { recursive: true, force: true });
  return start();
});

const open = new Set<Socket>();
let idle: NodeJS.Timeout | undefined;
let isStopping = false;

const stop = async () => {
  if (isStopping) return;
  isStopping = true;
  // First nobody can find it any more, then it ends.
  server.close();
  for (const socket of open) socket.destroy();
  await postgres.stop();
  rmSync(data, { recursive: true, force: true });
  process.exit(0);
};

const whenIdle = () => {
  clearTimeout(idle);
  if (open.size === 0) idle = setTimeout(() => void stop(), IDLE_MS);
};

const server = createServer((socket) => {
  if (isStopping) {
    socket.destroy();
    return;
  }
  open.add(socket);
  clearTimeout(idle);
  socket.on('error', () => undefined);
  socket.on('close', () => {
    open.delete(socket);
    whenIdle();
  });
  socket.write(`${postgres.url}\n`);
});
if (process.platform !== 'win32') rmSync(path, { force: true });
server.listen(path, whenIdle);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void stop());
