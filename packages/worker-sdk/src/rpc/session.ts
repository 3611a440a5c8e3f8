import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { ChurningMap } from '@perdure/collections';
import { type SessionCallSchema, SessionRequestSchema, SessionResponseSchema, SessionService } from '@perdure/proto';
import { grpcReason, RpcError, rpcErrorOfStatus, unreachable } from './rpc-error.js';

const PATH = `/${SessionService.typeName}/${SessionService.method.session.name}`;
/** How often deadlines and idleness are checked, in ms. */
const SWEEP_MS = 250;
/** A session without calls is ended after this many ms, so that it does not keep a process alive. */
const IDLE_MS = 500;
/** Frames stay well below the server's limit for a message. */
const MAX_FRAME_BYTES = 1024 * 1024;
/** Flush early once this many calls are queued: the server works on them while this process makes more. */
const FULL_FRAME_CALLS = 64;
const MAX_CALL_ID = 2 ** 31;

interface Pending {
  readonly method: string;
  readonly sentAtMs: number;
  deadlineMs: number;
  readonly onResponse: (response: Uint8Array) => void;
  readonly onError: (error: RpcError, isSilent: boolean) => void;
}

export interface SessionCallOptions {
  /** Give or take a sweep. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Called once, unless `onError` is. */
  readonly onResponse: (response: Uint8Array) => void;
  /** Called once, unless `onResponse` is; `isSilent`: nothing came from the server since the call was made. */
  readonly onError: (error: RpcError, isSilent: boolean) => void;
}

/**
 * One stream that carries many calls. What is called during one turn of the event loop goes out as one frame. When the
 * stream breaks, every call without an answer fails as UNAVAILABLE; its caller repeats it.
 */
export class Session {
  readonly #stream: grpc.ClientDuplexStream<Buffer, Buffer>;
  readonly #pending = new ChurningMap<number, Pending>();
  readonly #sweeper: NodeJS.Timeout;
  readonly #address: string;
  readonly #onClosed: () => void;
  #calls: MessageInitShape<typeof SessionCallSchema>[] = [];
  #cancelledCallIds: number[] = [];
  #nextCallId = 1;
  #scheduled = false;
  #blocked = false;
  #closed = false;
  #refused = false;
  /** As of a sweep; 0: never. */
  #heardAtMs = 0;
  #idleSinceMs = performance.now();
  /** As of the last sweep: deadlines need no better clock. */
  #nowMs = performance.now();

  /**
   * @param address for messages
   * @param onClosed called once when it has become unusable, before its calls fail
   */
  constructor(client: grpc.Client, address: string, onClosed: () => void) {
    this.#address = address;
    this.#onClosed = onClosed;
    const identity = (bytes: Buffer) => bytes;
    this.#stream = client.makeBidiStreamRequest(PATH, identity, identity, new grpc.Metadata());
    this.#stream.on('data', (bytes: Buffer) => this.#onFrame(bytes));
    this.#stream.on('error', (error: grpc.ServiceError) => {
      // A server that cannot be reached at all has not refused streams.
      this.#refused = error.code !== grpc.status.UNAVAILABLE && error.code !== grpc.status.CANCELLED;
      this.#close(grpcReason(error));
    });
    this.#stream.on('end', () => this.#close('the server ended it'));
    this.#stream.on('drain', () => {
      this.#blocked = false;
      this.#flush();
    });
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeper.unref();
  }

  /** The server has answered at least once: streams get through. */
  get heard(): boolean {
    return this.#heardAtMs > 0;
  }

  /** It ended with a status that says that streams are not served. */
  get refused(): boolean {
    return this.#refused;
  }

  /** @param method for example `WorkerService/CompleteStep` */
  call(method: string, request: Uint8Array, { timeoutMs, signal, onResponse, onError }: SessionCallOptions): void {
    const callId = this.#nextCallId++;
    if (this.#nextCallId >= MAX_CALL_ID) this.#nextCallId = 1;
    const sentAtMs = this.#nowMs;
    const deadlineMs = sentAtMs + SWEEP_MS + timeoutMs;
    if (signal === undefined) this.#pending.set(callId, { method, sentAtMs, deadlineMs, onResponse, onError });
    else {
      const onAbort = () => this.#giveUp(callId, givenUp(method));
      signal.addEventListener('abort', onAbort, { once: true });
      this.#pending.set(callId, {
        method,
        sentAtMs,
        deadlineMs,
        onResponse(response) {
          signal.removeEventListener('abort', onAbort);
          onResponse(response);
        },
        onError(error, isSilent) {
          signal.removeEventListener('abort', onAbort);
          onError(error, isSilent);
        },
      });
    }
    this.#calls.push({ callId, method, request });
    if (this.#calls.length >= FULL_FRAME_CALLS) this.#flush();
    else this.#schedule();
  }

  /** Ends the stream; calls without an answer fail as UNAVAILABLE. */
  close(why = 'it was closed here'): void {
    this.#stream.cancel();
    this.#close(why);
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (!this.#blocked && !this.#closed && (this.#calls.length > 0 || this.#cancelledCallIds.length > 0)) {
      const calls = this.#takeCalls();
      const frame = create(SessionRequestSchema, { calls, cancelledCallIds: this.#cancelledCallIds });
      this.#cancelledCallIds = [];
      const bytes = toBinary(SessionRequestSchema, frame);
      this.#blocked = !this.#stream.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }
  }

  #takeCalls(): MessageInitShape<typeof SessionCallSchema>[] {
    let bytes = 0;
    let count = 0;
    for (const call of this.#calls) {
      bytes += (call.request?.byteLength ?? 0) + 64;
      if (count > 0 && bytes > MAX_FRAME_BYTES) break;
      count++;
    }
    if (count === this.#calls.length) {
      const all = this.#calls;
      this.#calls = [];
      return all;
    }
    return this.#calls.splice(0, count);
  }

  #onFrame(bytes: Buffer): void {
    this.#heardAtMs = this.#nowMs;
    for (const { callId, outcome } of fromBinary(SessionResponseSchema, bytes).answers) {
      const pending = this.#pending.get(callId);
      if (pending === undefined) continue;
      this.#pending.delete(callId);
      if (outcome.case === 'response') pending.onResponse(outcome.value);
      else if (outcome.case === 'error') pending.onError(rpcErrorOfStatus(outcome.value), false);
      else pending.onResponse(new Uint8Array());
    }
    if (this.#pending.size === 0) this.#idleSinceMs = performance.now();
  }

  #giveUp(callId: number, error: RpcError): void {
    const pending = this.#pending.get(callId);
    if (pending === undefined) return;
    this.#pending.delete(callId);
    this.#cancelledCallIds.push(callId);
    this.#schedule();
    pending.onError(error, this.#heardAtMs < pending.sentAtMs);
  }

  #sweep(): void {
    const now = performance.now();
    const lateMs = now - this.#nowMs - SWEEP_MS;
    this.#nowMs = now;
    for (const [callId, pending] of this.#pending) {
      // This process stood still: answers may have come that were not read, and calls made since bear an old time.
      if (lateMs > SWEEP_MS) pending.deadlineMs += lateMs;
      if (pending.deadlineMs > now) continue;
      const message = `${this.#address} did not answer ${pending.method} in time.`;
      this.#giveUp(callId, new RpcError('DEADLINE_EXCEEDED', message));
    }
    if (this.#pending.size === 0 && this.#calls.length === 0 && now - this.#idleSinceMs > IDLE_MS) {
      this.#stream.end();
      this.#close('it was idle');
    }
  }

  #close(why: string): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#sweeper);
    this.#onClosed();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { onError } of pending) onError(this.#brokenError(why), false);
  }

  #brokenError(why: string): RpcError {
    if (!this.heard) return unreachable(this.#address, why);
    return new RpcError('UNAVAILABLE', `The session with ${this.#address} broke: ${why}.`);
  }
}

function givenUp(method: string): RpcError {
  return new RpcError('CANCELLED', `${method} was aborted by the caller.`);
}
