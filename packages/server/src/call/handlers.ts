import type { DescMessage, DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';

/** The call that a handler answers, beside its request. */
export interface Call {
  /** The caller has left or cancelled. */
  readonly aborted: boolean;
  /** For code that needs a signal; created on demand. */
  readonly signal: AbortSignal;
  /** Calls back when the caller leaves before the call is answered. Cheaper than a signal. */
  onAbort(listener: () => void): void;
}

/** The state behind a {@link Call}. */
export class CallState implements Call {
  #controller: AbortController | undefined;
  #listeners: (() => void)[] | undefined;
  #aborted = false;

  get aborted(): boolean {
    return this.#aborted;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  onAbort(listener: () => void): void {
    this.#listeners ??= [];
    this.#listeners.push(listener);
  }

  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#controller?.abort();
    for (const listener of this.#listeners ?? []) listener();
  }
}

export type UnaryHandler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call,
) => Promise<MessageInitShape<O>>;

export type StreamHandler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call,
) => AsyncIterable<MessageInitShape<O>>;

type HandlerOf<M> = M extends {
  methodKind: 'unary';
  input: infer I extends DescMessage;
  output: infer O extends DescMessage;
}
  ? UnaryHandler<I, O>
  : M extends {
        methodKind: 'server_streaming';
        input: infer I extends DescMessage;
        output: infer O extends DescMessage;
      }
    ? StreamHandler<I, O>
    : never;

/** One function for each method of a service; the same functions serve gRPC and Connect. */
export type Handlers<S extends DescService> = { readonly [K in keyof S['method']]: HandlerOf<S['method'][K]> };

/** A service with its handlers, types erased; for the transports. */
export interface ServiceBinding {
  readonly service: DescService;
  unary(method: DescMethod): UnaryHandler<DescMessage, DescMessage>;
  stream(method: DescMethod): StreamHandler<DescMessage, DescMessage>;
}

export function bindService<S extends DescService>(service: S, handlers: Handlers<S>): ServiceBinding {
  const table = handlers as unknown as Readonly<Record<string, unknown>>;
  return {
    service,
    unary: (method) => table[method.localName] as UnaryHandler<DescMessage, DescMessage>,
    stream: (method) => table[method.localName] as StreamHandler<DescMessage, DescMessage>,
  };
}
