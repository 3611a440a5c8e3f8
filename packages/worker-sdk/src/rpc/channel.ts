import * as grpc from '@grpc/grpc-js';
import { type RpcError, rpcErrorOf, unreachable } from './rpc-error.js';
import { Session } from './session.js';
import { afterFailure } from './session-policy.js';

/** Largest answer, in bytes: a memo page, a full input and room. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** Larger requests are sent as unary calls: on the stream they would delay all others. */
const MAX_SESSION_CALL_BYTES = 256 * 1024;
/** How long to stay on unary calls after streaming failed, in ms. */
const WITHOUT_SESSION_MS = 300_000;
/** A call fails as UNAVAILABLE when there is no connection within this many ms; connecting continues. */
const CONNECT_MS = 3_000;

export interface ChannelCall {
  /** For example `/perdure.v1.WorkerService/CompleteStep`. */
  readonly path: string;
  /** For example `WorkerService/CompleteStep`. */
  readonly method: string;
  readonly request: Uint8Array;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  /** Called once, unless `onError` is. */
  readonly onResponse: (response: Uint8Array) => void;
  /** Called once, unless `onResponse` is; `isSilent`: nothing at all came from the server while the call waited. */
  readonly onError: (error: RpcError, isSilent: boolean) => void;
}

/** One server's address, with a session on it for as long as streams get through. */
export class Channel {
  /** `host:port` */
  readonly address: string;
  /** Calls that failed since the last one that was answered. */
  failuresInARow = 0;
  readonly #client: grpc.Client;
  readonly #useSessions: boolean;
  #session: Session | undefined;
  /** Streams do not get through until then, by the monotonic clock. */
  #unaryUntilMs = 0;

  constructor(address: string, useSessions: boolean) {
    this.address = address;
    this.#useSessions = useSessions;
    this.#client = new grpc.Client(address, grpc.credentials.createInsecure(), {
      'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
      'grpc.max_send_message_length': -1,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.min_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 2_000,
      // A network that drops everything is noticed after 10 s, well within a lease.
      'grpc.keepalive_time_ms': 5_000,
      'grpc.keepalive_timeout_ms': 5_000,
      // Two connections to one address must not share a channel: each has its own life.
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  call(call: ChannelCall): void {
    const session = call.request.byteLength > MAX_SESSION_CALL_BYTES ? undefined : this.#openSession();
    if (session === undefined) {
      this.#callUnary(call);
      return;
    }
    const { method, request, timeoutMs, signal, onResponse, onError } = call;
    session.call(method, request, {
      timeoutMs,
      signal,
      onResponse,
      onError: (error, isSilent) => {
        const { heard, refused } = session;
        const decision = afterFailure({ error, heard, refused, aborted: signal?.aborted ?? false });
        if (decision !== 'fail') this.#unaryUntilMs = performance.now() + WITHOUT_SESSION_MS;
        if (decision === 'retry-unary') this.#callUnary(call);
        else onError(error, isSilent);
      },
    });
  }

  /** A server that streams its answers. */
  async *stream(
    path: string,
    method: string,
    request: Uint8Array,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const call = this.#client.makeServerStreamRequest(path, bufferOf, sameBytes, request, new grpc.Metadata());
    const onAbort = () => call.cancel();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      for await (const message of call) yield message as Uint8Array;
    } catch (error) {
      throw rpcErrorOf(error as grpc.ServiceError, method, this.address);
    } finally {
      signal?.removeEventListener('abort', onAbort);
      call.cancel();
    }
  }

  /** Fails the calls in flight: the server is silent, and they may be repeated at another one. */
  breakOff(): void {
    this.#session?.close('it has gone silent');
  }

  close(): void {
    this.#session?.close();
    this.#client.close();
  }

  #openSession(): Session | undefined {
    if (!this.#useSessions || this.#unaryUntilMs > performance.now()) return undefined;
    if (this.#session !== undefined) return this.#session;
    const session = new Session(this.#client, this.address, () => {
      if (this.#session === session) this.#session = undefined;
      disarm();
    });
    const disarm = this.#unlessConnected(() => session.close(noConnection()));
    this.#session = session;
    return session;
  }

  #callUnary({ path, method, request, timeoutMs, signal, onResponse, onError }: ChannelCall): void {
    let isGivenUp = false;
    const onAbort = () => call.cancel();
    const disarm = this.#unlessConnected(() => {
      isGivenUp = true;
      call.cancel();
    });
    const call = this.#client.makeUnaryRequest(
      path,
      bufferOf,
      sameBytes,
      request,
      new grpc.Metadata(),
      { deadline: Date.now() + timeoutMs },
      (error, response) => {
        disarm();
        signal?.removeEventListener('abort', onAbort);
        if (error === null && response !== undefined) onResponse(response);
        else if (isGivenUp) onError(unreachable(this.address, noConnection()), true);
        else onError(rpcErrorOf(error as grpc.ServiceError, method, this.address), false);
      },
    );
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  }

  /** @returns cancels the timer */
  #unlessConnected(giveUp: () => void): () => void {
    const channel = this.#client.getChannel();
    const isConnected = () => channel.getConnectivityState(false) === grpc.connectivityState.READY;
    if (isConnected()) return () => undefined;
    const timer = setTimeout(() => {
      if (!isConnected()) giveUp();
    }, CONNECT_MS);
    return () => clearTimeout(timer);
  }
}

const noConnection = () => `no connection within ${CONNECT_MS / 1000} s`;
const bufferOf = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const sameBytes = (bytes: Buffer): Uint8Array => bytes;
