import type { Failure, Payload } from '@perdure/store';

export function payloadBytes(payload: Payload | null): number {
  return payload === null ? 0 : payload.data.byteLength;
}

/** Approximate size: texts and details of a failure and its causes. */
export function failureBytes(failure: Failure): number {
  let bytes = 0;
  for (let next: Failure | undefined = failure; next !== undefined; next = next.cause) {
    bytes += next.message.length + (next.stack?.length ?? 0) + (next.details?.data.length ?? 0);
  }
  return bytes;
}
