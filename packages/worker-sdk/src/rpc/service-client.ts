import type { DescMessage, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf';

/** Options of one call. */
export interface CallOptions {
  /** The call fails as DEADLINE_EXCEEDED after this many ms; default 30,000. */
  readonly timeoutMs?: number;
  /** Ends the call as CANCELLED when aborted. */
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

/** One function for each method of a service. They throw {@link RpcError}. */
export type ServiceClient<S extends DescService> = { readonly [K in keyof S['method']]: CallOf<S['method'][K]> };
