import { create, type DescMessage, type DescMethod, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import * as grpc from '@grpc/grpc-js';
import { ReflectionService } from '@grpc/reflection';
import { SessionService, StatusSchema } from '@perdure/proto';
import { HealthImplementation } from 'grpc-health-check';
import type { Logger } from 'pino';
import { type Call, CallState, type ServiceBinding } from '../call/handlers.js';
import { invalidArgument, type RpcError } from '../call/rpc-error.js';
import { errorDetails } from './error-details.js';
import { failureOf } from './failures.js';
import { reflectionPackage } from './reflection.js';
import { SessionStream, sessionTargets } from './session.js';

export interface GrpcServerOptions {
  readonly host: string;
  readonly port: number;
  readonly maxFrameBytes: number;
  readonly bindings: readonly ServiceBinding[];
  readonly log: Logger;
}

export interface GrpcServer {
  /** The port that was bound. */
  readonly port: number;
  /** Whether `grpc.health.v1` says SERVING. */
  setServing(serving: boolean): void;
  /** Accepts no new calls, gives open ones this many ms, then ends them. */
  stop(graceMs: number): Promise<void>;
}

/** Request bytes that cannot be decoded as the expected message; grpc-js itself would answer INTERNAL. */
class Undecodable {
  readonly cause: unknown;
  constructor(cause: unknown) {
    this.cause = cause;
  }
}

/** Serves the services over gRPC, with health and reflection. */
export async function startGrpcServer(options: GrpcServerOptions): Promise<GrpcServer> {
  const { bindings, log } = options;
  const server = new grpc.Server({
    'grpc.max_receive_message_length': options.maxFrameBytes,
    'grpc.max_send_message_length': -1,
    // A peer that vanished silently must not keep polls waiting here.
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.max_concurrent_streams': 100_000,
  });
  for (const binding of bindings) {
    const definition: Record<string, grpc.MethodDefinition<Message | Undecodable, Message>> = {};
    const implementation: grpc.UntypedServiceImplementation = {};
    for (const method of binding.service.methods) {
      definition[method.localName] = methodDefinition(binding, method);
      implementation[method.localName] =
        method.methodKind === 'server_streaming' ? streamCall(binding, method, log) : unaryCall(binding, method, log);
    }
    server.addService(definition, implementation);
  }
  const targets = sessionTargets(bindings);
  const sessions = new Set<SessionStream>();
  server.addService(SESSION_DEFINITION, {
    session: (stream: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      sessions.add(new SessionStream(stream, targets, log, (session) => sessions.delete(session)));
    },
  });
  const services = [...bindings.map(({ service }) => service), SessionService];
  const names = services.map(({ typeName }) => typeName);
  const health = new HealthImplementation();
  health.addToServer(server);
  new ReflectionService(reflectionPackage(services)).addToServer(server);
  const setServing = (serving: boolean) => {
    for (const name of ['', ...names]) health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING');
  };

  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(hostPort(options.host, options.port), grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  setServing(true);

  return {
    port,
    setServing,
    async stop(graceMs) {
      setServing(false);
      for (const session of sessions) session.drain();
      const timer = setTimeout(() => server.forceShutdown(), graceMs);
      await new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
      clearTimeout(timer);
    },
  };
}

/** Frames are passed as bytes, because the session decodes them itself. */
const SESSION_DEFINITION: grpc.ServiceDefinition = {
  session: {
    path: `/${SessionService.typeName}/${SessionService.method.session.name}`,
    requestStream: true,
    responseStream: true,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: (bytes: Buffer) => bytes,
    responseSerialize: (bytes: Buffer) => bytes,
    responseDeserialize: (bytes: Buffer) => bytes,
  },
};

export const hostPort = (host: string, port: number): string =>
  host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;

function methodDefinition(
  { service }: ServiceBinding,
  method: DescMethod,
): grpc.MethodDefinition<Message | Undecodable, Message> {
  return {
    path: `/${service.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === 'server_streaming',
    requestSerialize: () => {
      throw new Error('A server sends no requests.');
    },
    requestDeserialize: (bytes) => {
      try {
        return fromBinary(method.input, bytes);
      } catch (error) {
        return new Undecodable(error);
      }
    },
    responseSerialize: (message) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: () => {
      throw new Error('A server receives no responses.');
    },
  };
}

function unaryCall(
  binding: ServiceBinding,
  method: DescMethod,
  log: Logger,
): grpc.handleUnaryCall<Message | Undecodable, Message> {
  const handle = binding.unary(method);
  return (call, callback) => {
    const respond = async (): Promise<Message> =>
      create(method.output as DescMessage, await handle(checked(call.request, method), callOf(call)));
    respond().then(
      (response) => callback(null, response),
      (error: unknown) => callback(statusOf(failureOf(log, method.name, error))),
    );
  };
}

function streamCall(
  binding: ServiceBinding,
  method: DescMethod,
  log: Logger,
): grpc.handleServerStreamingCall<Message | Undecodable, Message> {
  const handle = binding.stream(method);
  return (call) => {
    const send = async () => {
      for await (const message of handle(checked(call.request, method), callOf(call))) {
        if (call.cancelled) return;
        if (!call.write(create(method.output as DescMessage, message))) await drained(call);
      }
      call.end();
    };
    send().catch((error: unknown) => {
      call.emit('error', statusOf(failureOf(log, method.name, error)));
    });
  };
}

function checked(request: Message | Undecodable, method: DescMethod): Message {
  if (!(request instanceof Undecodable)) return request;
  const why = request.cause instanceof Error ? request.cause.message : String(request.cause);
  throw invalidArgument([
    { field: '(message)', description: `must be a ${method.input.typeName}; the bytes could not be decoded: ${why}` },
  ]);
}

function callOf(call: { readonly cancelled: boolean; once(event: 'cancelled', listener: () => void): unknown }): Call {
  const state = new CallState();
  if (call.cancelled) state.abort();
  else call.once('cancelled', () => state.abort());
  return state;
}

function drained(call: grpc.ServerWritableStream<Message | Undecodable, Message>): Promise<void> {
  return new Promise((resolve) => {
    const go = () => {
      call.off('drain', go);
      call.off('cancelled', go);
      call.off('close', go);
      resolve();
    };
    call.once('drain', go);
    call.once('cancelled', go);
    call.once('close', go);
  });
}

function statusOf(error: RpcError): grpc.ServiceError {
  const metadata = new grpc.Metadata();
  const details = errorDetails(error).map(({ desc, value }) => anyPack(desc, value));
  const status = create(StatusSchema, { code: error.code, message: error.message, details });
  metadata.set('grpc-status-details-bin', Buffer.from(toBinary(StatusSchema, status)));
  return Object.assign(new Error(error.message), {
    code: error.code as number as grpc.status,
    details: error.message,
    metadata,
  });
}
