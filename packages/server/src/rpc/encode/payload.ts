/** Payloads as protobuf messages. */
import { create } from '@bufbuild/protobuf';
import { type Payload as PayloadMessage, PayloadSchema } from '@perdure/proto';
import type { Payload } from '@perdure/store';

export function payloadMessage(payload: Payload): PayloadMessage {
  return create(PayloadSchema, { data: payload.data, encoding: payload.encoding });
}

export function optionalPayload<Key extends string>(
  key: Key,
  payload: Payload | null | undefined,
): { [K in Key]?: PayloadMessage } {
  return payload == null ? {} : ({ [key]: payloadMessage(payload) } as { [K in Key]?: PayloadMessage });
}

/** A payload as it is stored inside of jsonb. */
export function loadedPayload({
  data,
  encoding,
}: {
  readonly data: string;
  readonly encoding: string;
}): PayloadMessage {
  return payloadMessage({ data: Buffer.from(data, 'base64'), encoding });
}
