import { create, type DescMethod, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { anyPack } from '@bufbuild/protobuf/wkt';
import type * as grpc from '@grpc/grpc-js';
import { ChurningMap } from '@perdure/collections';
import {
  type SessionAnswerSchema,
  type SessionCall,
  SessionRequestSchema,
  SessionResponseSchema,
  StatusSchema,
} from '@perdure/proto';
import type { Logger } from 'pino';
import { CallState, type ServiceBinding } from '../call/handlers.js';
import { invalidArgument, overloaded, type RpcError, shuttingDown } from '../call/rpc-error.js';
import { encodeAnswer } from '../rpc/encode/shared-answer.js';
import { errorDetails } from './error-details.js';
import { failureOf } from './failures.js';

/** Most unanswered calls of a session. */
const MAX_CALLS = 10_000;
/** Answers with more bytes are sent in several frames. */
const MAX_FRAME_BYTES = 1024 * 1024;
/** Estimated size of an answer without its response, or of an error, in bytes. */
const ANSWER_OVERHEAD_BYTES = 500;

/** Limits for the answers to a peer that does not read. */
export interface SessionLimits {
  /** With more bytes of unwritten answers, no further calls are read until the peer has read some. */
  readonly pauseBytes: number;
  /** A paused session ends when the peer has read nothing for this long, in ms. */
  readonly stallMs: number;
  /** With more bytes of unwritten answers the session ends at once: earlier calls may still answer while it is paused. */
  readonly endBytes: number;
}

const SESSION_LIMITS: SessionLimits = { pauseBytes: 1024 * 1024, stallMs: 30_000, endBytes: 256 * 1024 * 1024 };

interface Target {
  readonly method: DescMethod;
  readonly handle: ReturnType<ServiceBinding['unary']>;
}

/** The unary RPCs of the services by `Service/Method`. */
export type SessionTargets = ReadonlyMap<string, Target>;

export function sessionTargets(bindings: readonly ServiceBinding[]): SessionTargets {
  return new Map(
    bindings.flatMap((binding) =>
      binding.service.methods
        .filter(({ methodKind }) => methodKind === 'unary')
        .map(
          (method) => [`${binding.service.name}/${method.name}`, { method, handle: binding.unary(method) }] as const,
        ),
    ),
  );
}

/** One session: reads calls from frames, gives them to the same handlers as unary calls, collects answers in frames. */
export class SessionStream {
  readonly #stream: grpc.ServerDuplexStream<Buffer, Buffer>;
  readonly #targets: SessionTargets;
  readonly #log: Logger;
  readonly #onEnd: () => void;
  readonly #calls = new ChurningMap<number, CallState>();
  #answers: MessageInitShape<typeof SessionAnswerSchema>[] = [];
  /** Bytes of answers that are not written yet. */
  #unwrittenBytes = 0;
  /** Runs while the session is paused. */
  #stall: NodeJS.Timeout | undefined;
  readonly #limits: SessionLimits;
  #scheduled = false;
  #blocked = false;
  #ended = false;
  #gone = false;

  /** @param onEnd called once, when the session is over */
  constructor(
    stream: grpc.ServerDuplexStream<Buffer, Buffer>,
    targets: SessionTargets,
    log: Logger,
    onEnd: (session: SessionStream) => void,
    limits: SessionLimits = SESSION_LIMITS,
  ) {
    this.#limits = limits;
    this.#onEnd = () => onEnd(this);
    this.#stream = stream;
    this.#targets = targets;
    this.#log = log;
    stream.on('data', (bytes: Buffer) => this.#onFrame(bytes));
    stream.on('end', () => {
      this.#ended = true;
      this.#endWhenDone();
    });
    stream.on('cancelled', () => this.#onGone());
    stream.on('error', () => this.#onGone());
    stream.on('drain', () => {
      this.#blocked = false;
      this.#stall?.refresh();
      this.#flush();
    });
  }

  /** Accepts no new calls and ends when the open ones are answered; the caller continues at another server. */
  drain(): void {
    this.#ended = true;
    this.#endWhenDone();
  }

  #onFrame(bytes: Buffer): void {
    let frame: ReturnType<typeof fromBinary<typeof SessionRequestSchema>>;
    try {
      frame = fromBinary(SessionRequestSchema, bytes);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      this.#fail(
        invalidArgument([
          { field: '(frame)', description: `must be a SessionRequest; the bytes could not be decoded: ${why}` },
        ]),
      );
      return;
    }
    for (const callId of frame.cancelledCallIds) this.#abort(callId);
    for (const call of frame.calls) this.#carryOut(call);
  }

  #carryOut({ callId, method: name, request }: SessionCall): void {
    if (this.#calls.has(callId)) {
      const description = `must be unique among the calls without an answer; ${callId} is in use.`;
      this.#answer(callId, errorAnswer(invalidArgument([{ field: 'call_id', description }])));
      return;
    }
    if (this.#ended) {
      this.#answer(callId, errorAnswer(shuttingDown()));
      return;
    }
    if (this.#calls.size >= MAX_CALLS) {
      this.#answer(callId, errorAnswer(overloaded(`${MAX_CALLS} calls of this session are unanswered`)));
      return;
    }
    const call = new CallState();
    this.#calls.set(callId, call);
    const onError = (error: unknown) => this.#settle(callId, errorAnswer(failureOf(this.#log, name, error)));
    try {
      const { method, handle } = this.#target(name);
      handle(decodeRequest(method, request), call).then((response) => {
        try {
          this.#settle(callId, { case: 'response', value: encodeAnswer(method.output, response) });
        } catch (error) {
          onError(error);
        }
      }, onError);
    } catch (error) {
      onError(error);
    }
  }

  #target(name: string): Target {
    const target = this.#targets.get(name);
    if (target !== undefined) return target;
    const known = 'a unary RPC such as WorkerService/CompleteStep';
    throw invalidArgument([
      { field: 'method', description: `must name ${known}; got ${JSON.stringify(name.slice(0, 100))}.` },
    ]);
  }

  #abort(callId: number): void {
    this.#calls.get(callId)?.abort();
  }

  #settle(callId: number, outcome: MessageInitShape<typeof SessionAnswerSchema>['outcome']): void {
    this.#calls.delete(callId);
    this.#answer(callId, outcome);
    this.#endWhenDone();
  }

  #answer(callId: number, outcome: MessageInitShape<typeof SessionAnswerSchema>['outcome']): void {
    if (this.#gone) return;
    this.#answers.push({ callId, ...(outcome === undefined ? {} : { outcome }) });
    this.#unwrittenBytes += bytesOf(outcome);
    if (this.#unwrittenBytes > this.#limits.endBytes) {
      this.#failUnread();
      return;
    }
    if (this.#unwrittenBytes > this.#limits.pauseBytes && this.#stall === undefined) {
      this.#stall = setTimeout(() => this.#failUnread(), this.#limits.stallMs);
      this.#stream.pause();
    }
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Answers of one turn of the event loop are sent as one frame.
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (this.#answers.length > 0 && !this.#blocked && !this.#gone) {
      const answers = this.#takeAnswers();
      const bytes = toBinary(SessionResponseSchema, create(SessionResponseSchema, { answers }));
      this.#blocked = !this.#stream.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    }
    if (this.#stall !== undefined && this.#unwrittenBytes <= this.#limits.pauseBytes && !this.#gone) {
      this.#endStall();
      this.#stream.resume();
    }
    this.#endWhenDone();
  }

  /** As many answers as fit a frame. */
  #takeAnswers(): MessageInitShape<typeof SessionAnswerSchema>[] {
    let count = 0;
    let bytes = 0;
    for (const { outcome } of this.#answers) {
      const more = bytesOf(outcome);
      if (count > 0 && bytes + more > MAX_FRAME_BYTES) break;
      bytes += more;
      count++;
    }
    this.#unwrittenBytes -= bytes;
    if (count < this.#answers.length) return this.#answers.splice(0, count);
    const all = this.#answers;
    this.#answers = [];
    return all;
  }

  #endWhenDone(): void {
    if (!this.#ended || this.#gone || this.#calls.size > 0 || this.#answers.length > 0) return;
    this.#gone = true;
    this.#onEnd();
    this.#stream.end();
  }

  #endStall(): void {
    clearTimeout(this.#stall);
    this.#stall = undefined;
  }

  #failUnread(): void {
    this.#fail(overloaded(`${this.#unwrittenBytes} bytes of answers are waiting for a peer that does not read them`));
  }

  #fail({ message, code }: RpcError): void {
    this.#stream.emit('error', Object.assign(new Error(message), { code, details: message }));
    this.#onGone();
  }

  #onGone(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#endStall();
    this.#onEnd();
    for (const callId of [...this.#calls.keys()]) this.#abort(callId);
    this.#answers = [];
    this.#unwrittenBytes = 0;
  }
}

function bytesOf(outcome: MessageInitShape<typeof SessionAnswerSchema>['outcome']): number {
  return ANSWER_OVERHEAD_BYTES + (outcome?.case === 'response' ? outcome.value.byteLength : 0);
}

function decodeRequest(method: DescMethod, bytes: Uint8Array) {
  try {
    return fromBinary(method.input, bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw invalidArgument([
      { field: 'request', description: `must be a ${method.input.typeName}; the bytes could not be decoded: ${why}` },
    ]);
  }
}

/** Under overload, many calls get the same error object. */
const errorAnswers = new WeakMap<RpcError, MessageInitShape<typeof SessionAnswerSchema>['outcome']>();

function errorAnswer(error: RpcError): MessageInitShape<typeof SessionAnswerSchema>['outcome'] {
  let answer = errorAnswers.get(error);
  if (answer === undefined) {
    const details = errorDetails(error).map(({ desc, value }) => anyPack(desc, value));
    answer = {
      case: 'error',
      value: create(StatusSchema, { code: error.code, message: error.message, details }),
    };
    errorAnswers.set(error, answer);
  }
  return answer;
}
