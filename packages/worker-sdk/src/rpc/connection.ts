import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { RpcError, rpcErrorOf } from './rpc-error.js';
import { Session } from './session.js';

export const DEFAULT_ADDRESS = '127.0.0.1:7300';
/** Largest answer: a memo page, a full input and room. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 30_000;
/** Larger requests go as calls of their own. */
const MAX_SESSION_CALL_BYTES = 256 * 1024;
/** Where streams do not get through, they are tried again after so long, in ms. */
const WITHOUT_SESSION_MS = 300_000;

export interface ConnectionOptions {
  /**
   * `host:port`, or several with commas between; default: environment variable PERDURE_ADDRESS, else `127.0.0.1:7300`. With
   * several, one is used until it cannot be reached, then the next.
   */
  readonly address?: string;
  /**
   * Carry calls over one stream, gathered into frames; default true. Where streams do not get through, for example because
   * of a proxy, unary calls are used by themselves. False: always unary calls.
   */
  readonly session?: boolean;
}

export interface CallOptions {
  /** The call is given up after so many ms; default 30,000. */
  readonly timeoutMs?: number;
  /** Gives the call up when aborted. */
  readonly signal?: AbortSignal;
}

type Unary<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: CallOptions,
) => Promise<MessageShape<O>>;
type Streaming<I extends DescMessage, O extends DescMessage> = (
  request: MessageInitShape<I>,
  options?: Pick<CallOptions, 'signal'>,
) => AsyncIterable<MessageShape<O>>;
type CallOf<M> = M extends {
  methodKind: 'unary';
  input: infer I extends DescMessage;
  output: infer O extends DescMessage;
}
  ? Unary<I, O>
  : M extends {
        methodKind: 'server_streaming';
        input: infer I extends DescMessage;
        output: infer O extends DescMessage;
      }
    ? Streaming<I, O>
    : never;
/** One function per method of a service. They throw {@link RpcError}. */
export type ServiceClient<S extends DescService> = { readonly [K in keyof S['method']]: CallOf<S['method'][K]> };

interface Channel {
  readonly address: string;
  readonly client: grpc.Client;
  session: Session | undefined;
  /** Streams do not get through to the server; by the monotonic clock. */
  unaryUntilMs: number;
}

/** A connection to Perdure's servers. Made lazily, and again whenever it breaks. Share one per process. */
export class Connection {
  /** As given. */
  readonly address: string;
  /** {@link close} was called. */
  readonly isClosed: boolean = false;
  readonly #channels: readonly Channel[];
  readonly #useSessions: boolean;
  #closed = false;
  #current = 0;

  constructor(options: ConnectionOptions = {}) {
    this.address = options.address ?? (process.env.PERDURE_ADDRESS || DEFAULT_ADDRESS);
    const addresses = this.address.split(',').map((address) => address.trim());
    for (const address of addresses) {
      if (!/^.+:\d{1,5}$/.test(address)) {
        throw new TypeError(
          `The address must be host:port, several with commas between; got ${JSON.stringify(address)}.`,
        );
      }
    }
    this.#useSessions = options.session ?? true;
    this.#channels = addresses.map((address) => ({
      address,
      session: undefined,
      unaryUntilMs: 0,
      client: new grpc.Client(address, grpc.credentials.createInsecure(), {
        'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
        'grpc.max_send_message_length': -1,
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.min_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2_000,
        'grpc.keepalive_time_ms': 20_000,
        'grpc.keepalive_timeout_ms': 10_000,
        // Two connections to one address must not share a channel: each has its own life.
        'grpc.use_local_subchannel_pool': 1,
      }),
    }));
  }

  service<S extends DescService>(service: S): ServiceClient<S> {
    const client: Record<string, unknown> = {};
    for (const method of service.methods) {
      const name = `${service.name}/${method.name}`;
      client[method.localName] =
        method.methodKind === 'server_streaming'
          ? (request: never, options?: CallOptions) => this.#stream(service, method, request, options)
          : (request: never, options?: CallOptions) => this.#unary(service, method, name, request, options);
    }
    return client as ServiceClient<S>;
  }

  /** Ends all connections; calls under way fail. */
  close(): void {
    this.#closed = true;
    (this as { isClosed: boolean }).isClosed = true;
    for (const { client, session } of this.#channels) {
      session?.close();
      client.close();
    }
  }

  #unary(
    service: DescService,
    method: DescMethod,
    name: string,
    request: MessageInitShape<DescMessage>,
    options: CallOptions = {},
  ): Promise<MessageShape<DescMessage>> {
    return new Promise((resolve, reject) => {
      const index = this.#current;
      const channel = this.#channel(index);
      const bytes = toBinary(method.input, create(method.input as DescMessage, request));
      // What is large would hold up everyone else's calls on the stream.
      const session = bytes.byteLength > MAX_SESSION_CALL_BYTES ? undefined : this.#sessionOf(channel);
      if (session === undefined) {
        resolve(this.#unaryCall(service, method, bytes, options, index));
        return;
      }
      const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
      session.call(name, bytes, {
        timeoutMs,
        signal,
        onResponse: (response) => {
          try {
            resolve(fromBinary(method.output, response));
          } catch (error) {
            reject(error);
          }
        },
        onError: (error) => {
          if (error.reason === '' && !session.heard && !signal?.aborted && channel.unaryUntilMs > performance.now()) {
            // The stream did not get through, so this call has not been carried out by it, or may be repeated.
            resolve(this.#unaryCall(service, method, bytes, options, index));
            return;
          }
          // A proxy that swallows streams looks like this.
          if (error.status === 'DEADLINE_EXCEEDED' && !session.heard)
            channel.unaryUntilMs = performance.now() + WITHOUT_SESSION_MS;
          if (error.status === 'UNAVAILABLE' && error.reason === '') this.#moveOn(index);
          reject(error);
        },
      });
    });
  }

  #sessionOf(channel: Channel): Session | undefined {
    if (!this.#useSessions || this.#closed || channel.unaryUntilMs > performance.now()) return undefined;
    if (channel.session !== undefined) return channel.session;
    const session = new Session(channel.client, (error) => {
      if (channel.session === session) channel.session = undefined;
      // The server cannot be reached at all: that is no fault of streams.
      const isRefusal =
        error !== undefined && error.code !== grpc.status.UNAVAILABLE && error.code !== grpc.status.CANCELLED;
      if (isRefusal && !session.heard) channel.unaryUntilMs = performance.now() + WITHOUT_SESSION_MS;
    });
    channel.session = session;
    return session;
  }

  #unaryCall(
    service: DescService,
    method: DescMethod,
    request: Uint8Array,
    { timeoutMs = DEFAULT_TIMEOUT_MS, signal }: CallOptions,
    index: number,
  ): Promise<MessageShape<DescMessage>> {
    const { client, address } = this.#channel(index);
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(new RpcError('CANCELLED', `${method.name} was given up by the caller.`));
        return;
      }
      const onAbort = () => call.cancel();
      const call = client.makeUnaryRequest(
        `/${service.typeName}/${method.name}`,
        (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
        (bytes: Buffer) => fromBinary(method.output, bytes),
        request,
        new grpc.Metadata(),
        { deadline: Date.now() + timeoutMs },
        (error, response) => {
          signal?.removeEventListener('abort', onAbort);
          if (error === null && response !== undefined) resolve(response);
          else reject(this.#failed(index, error as grpc.ServiceError, method, address));
        },
      );
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  async *#stream(
    service: DescService,
    method: DescMethod,
    request: MessageInitShape<DescMessage>,
    { signal }: CallOptions = {},
  ): AsyncGenerator<MessageShape<DescMessage>> {
    const index = this.#current;
    const { client, address } = this.#channel(index);
    const call = client.makeServerStreamRequest(
      `/${service.typeName}/${method.name}`,
      (message: MessageShape<DescMessage>) => Buffer.from(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes),
      create(method.input as DescMessage, request),
      new grpc.Metadata(),
    );
    const onAbort = () => call.cancel();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const message of call) yield message as MessageShape<DescMessage>;
    } catch (error) {
      throw this.#failed(index, error as grpc.ServiceError, method, address);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      call.cancel();
    }
  }

  #channel(index: number): Channel {
    return this.#channels[index % this.#channels.length] as Channel;
  }

  #failed(index: number, error: grpc.ServiceError, method: DescMethod, address: string): RpcError {
    const failure = rpcErrorOf(error, method.name, address);
    if (failure.status === 'UNAVAILABLE') this.#moveOn(index);
    return failure;
  }

  /** Whoever fails first moves on to the next server; those that fail on the old one move nothing. */
  #moveOn(index: number): void {
    if (this.#current === index) this.#current++;
  }
}
