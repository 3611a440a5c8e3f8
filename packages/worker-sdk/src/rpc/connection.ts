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
import { DEFAULT_ADDRESS, parseAddresses } from './addresses.js';
import { Channel } from './channel.js';
import { leavesServer } from './fail-over.js';
import { RpcError } from './rpc-error.js';
import type { CallOptions, ServiceClient } from './service-client.js';

export { DEFAULT_ADDRESS } from './addresses.js';
export type { CallOptions, ServiceClient } from './service-client.js';

const DEFAULT_TIMEOUT_MS = 30_000;

/** Options of a {@link Connection}. */
export interface ConnectionOptions {
  /**
   * `host:port`, or several separated by commas; default: environment variable PERDURE_ADDRESS, else `127.0.0.1:7300`. With
   * several, one is used until it cannot be reached, is silent or has lost its database, then the next.
   */
  readonly address?: string;
  /**
   * Carry calls over one stream, gathered into frames; default true. Where a proxy blocks streams, unary calls are used
   * automatically. False: always unary calls.
   */
  readonly session?: boolean;
}

interface Method {
  readonly path: string;
  readonly name: string;
  readonly desc: DescMethod;
}

/** A connection to Perdure's servers. Connects with the first call, and again whenever it breaks. Share one per process. */
export class Connection {
  /** The addresses as given. */
  readonly address: string;
  readonly #channels: readonly Channel[];
  #closed = false;
  /** Only rises; the channel is its remainder. */
  #current = 0;

  /** @throws {TypeError} when an address is not host:port */
  constructor(options: ConnectionOptions = {}) {
    this.address = options.address ?? (process.env.PERDURE_ADDRESS || DEFAULT_ADDRESS);
    const useSessions = options.session ?? true;
    this.#channels = parseAddresses(this.address).map((address) => new Channel(address, useSessions));
  }

  /** {@link close} was called. */
  get isClosed(): boolean {
    return this.#closed;
  }

  /** @returns a function for each method of the service; see {@link ServiceClient} */
  service<S extends DescService>(service: S): ServiceClient<S> {
    const client: Record<string, unknown> = {};
    for (const desc of service.methods) {
      const method: Method = {
        path: `/${service.typeName}/${desc.name}`,
        name: `${service.name}/${desc.name}`,
        desc,
      };
      client[desc.localName] =
        desc.methodKind === 'server_streaming'
          ? (request: never, options?: CallOptions) => this.#stream(method, request, options)
          : (request: never, options?: CallOptions) => this.#unary(method, request, options);
    }
    return client as ServiceClient<S>;
  }

  /** Closes all connections; calls in flight and later ones fail as CANCELLED. */
  close(): void {
    this.#closed = true;
    for (const channel of this.#channels) channel.close();
  }

  #unary(
    method: Method,
    request: MessageInitShape<DescMessage>,
    { timeoutMs = DEFAULT_TIMEOUT_MS, signal }: CallOptions = {},
  ): Promise<MessageShape<DescMessage>> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(this.#closedError());
        return;
      }
      if (signal?.aborted) {
        reject(new RpcError('CANCELLED', `${method.name} was aborted by the caller.`));
        return;
      }
      const index = this.#current;
      const channel = this.#channel(index);
      channel.call({
        path: method.path,
        method: method.name,
        request: toBinary(method.desc.input, create(method.desc.input as DescMessage, request)),
        timeoutMs,
        signal,
        onResponse(response) {
          channel.failuresInARow = 0;
          try {
            resolve(fromBinary(method.desc.output, response));
          } catch (error) {
            reject(error);
          }
        },
        onError: (error, isSilent) => {
          this.#onFailure(index, error, isSilent);
          reject(this.#closed ? this.#closedError() : error);
        },
      });
    });
  }

  async *#stream(
    method: Method,
    request: MessageInitShape<DescMessage>,
    { signal }: CallOptions = {},
  ): AsyncGenerator<MessageShape<DescMessage>> {
    if (this.#closed) throw this.#closedError();
    const index = this.#current;
    const bytes = toBinary(method.desc.input, create(method.desc.input as DescMessage, request));
    try {
      for await (const message of this.#channel(index).stream(method.path, method.name, bytes, signal)) {
        yield fromBinary(method.desc.output, message);
      }
    } catch (error) {
      if (error instanceof RpcError) this.#onFailure(index, error, false);
      throw error;
    }
  }

  #channel(index: number): Channel {
    return this.#channels[index % this.#channels.length] as Channel;
  }

  #onFailure(index: number, error: RpcError, isSilent: boolean): void {
    const channel = this.#channel(index);
    channel.failuresInARow++;
    const { failuresInARow } = channel;
    // Only the first failure moves on to the next server; later ones of the old server move nothing.
    if (this.#current !== index || !leavesServer({ error, isSilent, failuresInARow })) return;
    this.#current++;
    channel.failuresInARow = 0;
    if (isSilent && this.#channels.length > 1) channel.breakOff();
  }

  #closedError(): RpcError {
    return new RpcError('CANCELLED', `The connection to ${this.address} was closed by close(). Make a new one.`);
  }
}
