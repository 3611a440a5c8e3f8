import { gunzipSync, gzipSync } from 'node:zlib';
import type { Codec } from './codec.js';
import { devalueCodec } from './devalue-codec.js';

const PREFIX = 'gzip+';

/** Options of {@link gzipCodec}. */
export interface GzipCodecOptions {
  /** The codec whose output is compressed; default {@link devalueCodec}. */
  readonly inner?: Codec;
  /** Payloads smaller than this are not compressed, in bytes; default 1,024. */
  readonly minBytes?: number;
  /** Payloads that would unpack to more than this are refused, in bytes; default 64 MiB. */
  readonly maxUnpackedBytes?: number;
}

/** Compresses what another codec encodes. Reads uncompressed payloads too, so it can be introduced at any time. */
export function gzipCodec(options: GzipCodecOptions = {}): Codec {
  const { inner = devalueCodec, minBytes = 1_024, maxUnpackedBytes = 64 * 1024 * 1024 } = options;
  return {
    encrypts: inner.encrypts === true,
    encode(value) {
      const plain = inner.encode(value);
      if (plain.data.byteLength < minBytes) return plain;
      const data = gzipSync(plain.data);
      return data.byteLength < plain.data.byteLength ? { data, encoding: PREFIX + plain.encoding } : plain;
    },
    decode(payload) {
      if (!payload.encoding.startsWith(PREFIX)) return inner.decode(payload);
      const data = gunzipSync(payload.data, { maxOutputLength: maxUnpackedBytes });
      return inner.decode({ data, encoding: payload.encoding.slice(PREFIX.length) });
    },
  };
}
