import type { Failure, Payload } from '@perdure/store';

export function payloadBytes(payload: Payload | null): number {
  return payload === null ? 0 : payload.data.byteLength;
}

/** Roughly: its texts and details, and those of its causes and errors; or what it is encrypted to. */
export function failureBytes(failure: Failure): number {
  let bytes = 0;
  const left = [failure];
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { message, stack = '', details, sealed, cause, errors = [] } = next;
    bytes += message.length + stack.length + (details?.data.length ?? 0) + (sealed?.data.length ?? 0);
    if (cause !== undefined) left.push(cause);
    left.push(...errors);
  }
  return bytes;
}
