import type { Payload } from '../model.js';

/** A payload from its two columns; both are null when there is none. */
export function payloadOf(data: Uint8Array | null | undefined, encoding: string | null | undefined): Payload | null {
  return data == null ? null : { data, encoding: encoding ?? '' };
}
