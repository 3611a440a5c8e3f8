import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as net from 'node:net';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Logger } from 'pino';
import type { ServiceBinding } from '../call/handlers.js';
import { addRoutes } from './connect-routes.js';
import { refuseForeignHosts } from './foreign-hosts.js';
import { type HttpHandler, type NotReady, withProbes } from './http-probes.js';
import { type HttpVersion, spokenVersion } from './http-version.js';

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly maxFrameBytes: number;
  readonly bindings: readonly ServiceBinding[];
  readonly log: Logger;
  /** The answer of `/readyz`. */
  readonly notReady: NotReady;
  /** Adds further routes before the calls. */
  readonly withRoutes?: (next: HttpHandler) => HttpHandler;
  /** Default {@link HTTP_LIMITS}. */
  readonly limits?: HttpLimits;
}

/** How long a peer may take, in ms; then its connection is closed. */
export interface HttpLimits {
  /** Until the HTTP version is known, and with HTTP/2 until the handshake is complete. */
  readonly greetingMs: number;
  /** To send the head of an HTTP/1.1 request. */
  readonly headMs: number;
  /** To send a whole HTTP/1.1 request. */
  readonly requestMs: number;
  /** How often both are checked. */
  readonly checkMs: number;
}

const HTTP_LIMITS: HttpLimits = { greetingMs: 10_000, headMs: 20_000, requestMs: 60_000, checkMs: 5_000 };

export interface HttpServer {
  /** The port that was bound. */
  readonly port: number;
  /** Accepts no new connections, gives open calls this many ms, then ends them. */
  stop(graceMs: number): Promise<void>;
}

/**
 * Serves the same handlers over Connect, gRPC-Web and gRPC for browsers and curl, with probes for orchestrators. HTTP/1.1 and
 * cleartext HTTP/2 share the port: an HTTP/2 client begins with a fixed preface, which is read before the connection
 * is passed on.
 */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const limits = options.limits ?? HTTP_LIMITS;
  const calls = connectNodeAdapter({
    routes: (router) => {
      for (const binding of options.bindings) addRoutes(router, binding, options.log);
    },
    readMaxBytes: options.maxFrameBytes,
    grpc: true,
    grpcWeb: true,
    connect: true,
  });
  const routes = options.withRoutes?.(calls) ?? calls;
  const handler = withProbes(options.notReady, refuseForeignHosts(options.host, routes));
  const http1Server = http.createServer(
    {
      requestTimeout: limits.requestMs,
      headersTimeout: limits.headMs,
      connectionsCheckingInterval: limits.checkMs,
    },
    handler,
  );
  // It never listens itself; without this event it would never check its timeouts.
  http1Server.emit('listening');
  const http2Server = http2.createServer({}, handler);
  http2Server.on('session', (session) => {
    const timer = setTimeout(() => session.destroy(), limits.greetingMs);
    session.once('remoteSettings', () => clearTimeout(timer));
    session.once('close', () => clearTimeout(timer));
  });
  const sockets = new Set<net.Socket>();

  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    greet(socket, limits.greetingMs, (version) => {
      (version === 'HTTP/2' ? http2Server : http1Server).emit('connection', socket);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });

  return {
    port: (server.address() as net.AddressInfo).port,
    async stop(graceMs) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      http1Server.close(() => undefined);
      const timer = setTimeout(
        () => {
          for (const socket of sockets) socket.destroy();
        },
        Math.min(graceMs, 1_000),
      );
      await closed;
      clearTimeout(timer);
    },
  };
}

/** Reads just enough to know the HTTP version of the peer, and puts the bytes back. */
function greet(socket: net.Socket, patienceMs: number, onKnown: (version: HttpVersion) => void): void {
  // Until the socket is passed on there is no other listener, and an error without a listener would end the process.
  socket.on('error', () => socket.destroy());
  const timer = setTimeout(() => socket.destroy(), patienceMs);
  let read = Buffer.alloc(0);
  const onData = (chunk: Buffer) => {
    read = Buffer.concat([read, chunk]);
    const version = spokenVersion(read);
    if (version === undefined) return;
    clearTimeout(timer);
    socket.off('data', onData);
    socket.pause();
    socket.unshift(read);
    onKnown(version);
    process.nextTick(() => socket.resume());
  };
  socket.on('data', onData);
  socket.once('close', () => clearTimeout(timer));
}
