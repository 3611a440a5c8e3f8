import type { DescMessage, DescMethod, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';

/** What a handler may know of the call beyond its request. */
export interface Call {
  /** Aborted when the caller is gone or has cancelled. */
  readonly signal: AbortSignal;
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

/** One function per method of a service; the same ones serve gRPC and Connect. */
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
