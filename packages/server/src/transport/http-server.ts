import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as net from 'node:net';
import { create, type DescMessage } from '@bufbuild/protobuf';
import { type Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Logger } from 'pino';
import { type Call, CallState, type ServiceBinding } from '../rpc/handlers.js';
import type { RpcError } from '../rpc/rpc-error.js';
import { errorDetails } from './error-details.js';
import { failureOf } from './failures.js';

export interface HttpServerOptions {
  readonly host: string;
  readonly port: number;
  readonly maxFrameBytes: number;
  readonly bindings: readonly ServiceBinding[];
  readonly log: Logger;
}

export interface HttpServer {
  /** The port that was bound. */
  readonly port: number;
  /** Takes no new connections, lets calls under way finish for so many ms, then ends them. */
  stop(graceMs: number): Promise<void>;
}

const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0');
/** A connection that does not say what it speaks within this time is closed, in ms. */
const FIRST_BYTE_TIMEOUT_MS = 10_000;

/**
 * Serves the same handlers over Connect, gRPC-Web and gRPC for browsers and curl. HTTP/1.1 and cleartext HTTP/2 share the
 * port: an HTTP/2 client begins with a fixed preface, which is looked at before the connection is handed on.
 */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const handler = connectNodeAdapter({
    routes: (router) => {
      for (const binding of options.bindings) route(router, binding, options.log);
    },
    readMaxBytes: options.maxFrameBytes,
    grpc: true,
    grpcWeb: true,
    connect: true,
  });
  const http1Server = http.createServer({ requestTimeout: 60_000, headersTimeout: 20_000 }, handler);
  const http2Server = http2.createServer({}, handler);
  const sockets = new Set<net.Socket>();

  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    // Before it is handed on nobody else listens, and an error without a listener would end the process.
    const onEarlyError = () => socket.destroy();
    socket.on('error', onEarlyError);
    socket.setTimeout(FIRST_BYTE_TIMEOUT_MS, onEarlyError);
    socket.once('data', (chunk) => {
      socket.setTimeout(0);
      socket.off('timeout', onEarlyError);
      socket.pause();
      socket.unshift(chunk);
      const speaksHttp2 = HTTP2_PREFACE.subarray(0, chunk.length).equals(chunk.subarray(0, HTTP2_PREFACE.length));
      (speaksHttp2 ? http2Server : http1Server).emit('connection', socket);
      process.nextTick(() => socket.resume());
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
      http1Server.closeIdleConnections();
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

function route(router: ConnectRouter, binding: ServiceBinding, log: Logger): void {
  const implementation: Record<string, unknown> = {};
  for (const method of binding.service.methods) {
    const output = method.output as DescMessage;
    if (method.methodKind === 'server_streaming') {
      const handle = binding.stream(method);
      implementation[method.localName] = async function* (request: never, context: HandlerContext) {
        try {
          for await (const message of handle(request, callOf(context))) yield create(output, message);
        } catch (error) {
          throw connectError(failureOf(log, method.name, error));
        }
      };
    } else {
      const handle = binding.unary(method);
      implementation[method.localName] = async (request: never, context: HandlerContext) => {
        try {
          return create(output, await handle(request, callOf(context)));
        } catch (error) {
          throw connectError(failureOf(log, method.name, error));
        }
      };
    }
  }
  router.service(binding.service, implementation as Record<string, never>);
}

function callOf({ signal }: HandlerContext): Call {
  const state = new CallState();
  if (signal.aborted) state.abort();
  else signal.addEventListener('abort', () => state.abort(), { once: true });
  return state;
}

function connectError(error: RpcError): ConnectError {
  const connectError = new ConnectError(error.message, error.code as number as Code);
  connectError.details = errorDetails(error);
  return connectError;
}
