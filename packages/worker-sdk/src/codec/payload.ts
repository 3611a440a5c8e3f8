import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Payload, PayloadSchema } from '@perdure/proto';
import type { Codec, EncodedPayload } from './codec.js';

/**
 * A value that is undefined is no payload at all.
 *
 * @param what names the value in the error, for example `The result of step 'charge'`
 * @throws what the codec throws, with the name in front
 */
export function encodeValue(
  codec: Codec,
  value: unknown,
  what: string,
): (MessageInitShape<typeof PayloadSchema> & EncodedPayload) | undefined {
  if (value === undefined) return undefined;
  try {
    return codec.encode(value);
  } catch (error) {
    if (error instanceof Error) error.message = `${what} cannot be recorded: ${error.message}`;
    throw error;
  }
}

export function decodeValue(codec: Codec, payload: Payload | undefined): unknown {
  return payload === undefined ? undefined : codec.decode(payload);
}
