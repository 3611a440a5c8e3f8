/** An encoded value. */
export interface EncodedPayload {
  /** At most what the server accepts, 2 MiB by default. */
  readonly data: Uint8Array;
  /** Names the format; at most 255 bytes, for example `json`. */
  readonly encoding: string;
}

/**
 * Turns values into the bytes that the server stores and back. The server never looks into them. What is encoded today may
 * be decoded months later, so a codec must keep reading what it once wrote: that is what `encoding` is for.
 */
export interface Codec {
  /** True: payloads are secret, so errors are recorded encoded too; default false. */
  readonly encrypts?: boolean;
  /** @throws when the value cannot be encoded; the step or run then fails with that error, without a retry */
  encode(value: unknown): EncodedPayload;
  /** @throws when the bytes cannot be decoded, or the encoding is not known */
  decode(payload: EncodedPayload): unknown;
}

/** @throws always */
export function unknownEncoding(encoding: string, known: string): never {
  throw new Error(
    `A payload has the encoding '${encoding}', which this codec (${known}) cannot read. Use the codec that wrote it.`,
  );
}
