import { connect, type Socket } from 'node:net';

/** What the driver passes to its socket factory: its own options, with lists of hosts. */
interface DialOptions {
  readonly host: readonly string[];
  readonly port: readonly number[];
  readonly path?: string | false;
}

const PAUSE_MIN_MS = 50;
const PAUSE_MAX_MS = 2_000;

/**
 * Opens the driver's sockets. When a connection is accepted and closed before PostgreSQL has answered (a proxy without a backend),
 * the driver does not count it as failed: it dials again at once, forever. Here the end of such a connection is an error, so the
 * statement that needed it fails and the driver's backoff applies. With several hosts the driver ignores errors as well; then this
 * code pauses after it has tried each host.
 */
export function createDialer(): (options: DialOptions) => Promise<Socket> {
  let dialled = 0;
  /** Connections in a row that ended before PostgreSQL answered. */
  let silent = 0;
  return async ({ host: hosts, port: ports, path }) => {
    const rounds = hosts.length > 1 ? Math.floor(silent / hosts.length) : 0;
    if (rounds > 0) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(PAUSE_MIN_MS * 2 ** rounds, PAUSE_MAX_MS)));
    }
    const place = dialled++ % hosts.length;
    const host = hosts[place] ?? 'localhost';
    const port = ports[place] ?? 5432;
    const socket = typeof path === 'string' && path !== '' ? connect(path) : connect(port, host);
    socket.once('end', () => {
      if (socket.bytesRead > 1) return;
      const error = new Error(`${host}:${port} closed the connection before PostgreSQL answered.`);
      socket.destroy(Object.assign(error, { code: 'CONNECTION_CLOSED' }));
    });
    // The driver removes all listeners when it switches to TLS and when the connection closes; it then calls a copy of this one.
    socket.once('close', () => {
      silent = socket.bytesRead > 1 ? 0 : silent + 1;
    });
    // The driver uses these for TLS and for its messages.
    return Object.assign(socket, { host, port });
  };
}
