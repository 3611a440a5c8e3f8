import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from '@bufbuild/protobuf';
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
import { CallState, type ServiceBinding } from '../rpc/handlers.js';
import { invalidArgument, overloaded, type RpcError, shuttingDown } from '../rpc/rpc-error.js';
import { errorDetails } from './error-details.js';
import { failureOf } from './failures.js';

/** Calls of a session that may be without an answer. */
const MAX_CALLS = 10_000;
const MAX_SHARED_BYTES = 64;
/** Answers of more than that go out in several frames. */
const MAX_FRAME_BYTES = 1024 * 1024;

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

/** One session: takes calls out of frames, hands them to the same handlers as unary calls, gathers answers into frames. */
export class SessionStream {
  readonly #stream: grpc.ServerDuplexStream<Buffer, Buffer>;
  readonly #targets: SessionTargets;
  readonly #log: Logger;
  readonly #onEnd: () => void;
  readonly #calls = new ChurningMap<number, CallState>();
  /** Handlers answer the calls of a batch with one object, which is encoded once. */
  #lastResponse: unknown;
  #lastResponseBytes: Uint8Array = new Uint8Array();
  #answers: MessageInitShape<typeof SessionAnswerSchema>[] = [];
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
  ) {
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
      this.#flush();
    });
  }

  /** Takes no new calls and ends once those under way are answered; the caller goes on with another server. */
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
      const refusal = invalidArgument([{ field: '(frame)', description: `must be a SessionRequest: ${why}` }]);
      this.#stream.emit(
        'error',
        Object.assign(new Error(refusal.message), { code: refusal.code, details: refusal.message }),
      );
      this.#onGone();
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
      this.#answer(callId, errorAnswer(overloaded(`${MAX_CALLS} calls of this session have no answer yet`)));
      return;
    }
    const call = new CallState();
    this.#calls.set(callId, call);
    const onError = (error: unknown) => this.#settle(callId, errorAnswer(failureOf(this.#log, name, error)));
    try {
      const { method, handle } = this.#target(name);
      handle(decodeRequest(method, request), call).then((response) => {
        try {
          this.#settle(callId, { case: 'response', value: this.#encode(method.output, response) });
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

  #encode(output: DescMessage, response: MessageInitShape<DescMessage>): Uint8Array {
    if (response === this.#lastResponse) return this.#lastResponseBytes;
    const bytes = toBinary(output, create(output, response as never));
    // Only acknowledgements are shared; anything large must not be held.
    if (bytes.byteLength <= MAX_SHARED_BYTES) {
      this.#lastResponse = response;
      this.#lastResponseBytes = bytes;
    }
    return bytes;
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
    if (this.#scheduled) return;
    this.#scheduled = true;
    // What one turn of the event loop settles goes out as one frame.
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
    this.#endWhenDone();
  }

  /** As many answers as go into a frame. */
  #takeAnswers(): MessageInitShape<typeof SessionAnswerSchema>[] {
    let bytes = 0;
    const end = this.#answers.findIndex(({ outcome }) => {
      bytes += outcome?.case === 'response' ? outcome.value.byteLength : 500;
      return bytes > MAX_FRAME_BYTES;
    });
    if (end < 0) {
      const all = this.#answers;
      this.#answers = [];
      return all;
    }
    return this.#answers.splice(0, Math.max(1, end));
  }

  #endWhenDone(): void {
    if (!this.#ended || this.#gone || this.#calls.size > 0 || this.#answers.length > 0) return;
    this.#gone = true;
    this.#onEnd();
    this.#stream.end();
  }

  #onGone(): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#onEnd();
    for (const callId of [...this.#calls.keys()]) this.#abort(callId);
    this.#answers = [];
  }
}

function decodeRequest(method: DescMethod, bytes: Uint8Array) {
  try {
    return fromBinary(method.input, bytes);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw invalidArgument([{ field: 'request', description: `must be a ${method.input.typeName}: ${why}` }]);
  }
}

function errorAnswer(error: RpcError): MessageInitShape<typeof SessionAnswerSchema>['outcome'] {
  const details = errorDetails(error).map(({ desc, value }) => anyPack(desc, value));
  return { case: 'error', value: create(StatusSchema, { code: error.code, message: error.message, details }) };
}
