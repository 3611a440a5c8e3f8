import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Payload, PayloadSchema } from '@perdure/proto';
import type { Codec } from './codec.js';

/** A value that is undefined is no payload at all. */
export function encodeValue(codec: Codec, value: unknown): MessageInitShape<typeof PayloadSchema> | undefined {
  return value === undefined ? undefined : codec.encode(value);
}

export function decodeValue(codec: Codec, payload: Payload | undefined): unknown {
  return payload === undefined ? undefined : codec.decode(payload);
}
