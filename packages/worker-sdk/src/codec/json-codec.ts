import { type Codec, unknownEncoding } from './codec.js';
import { isPlainJson } from './plain-json.js';
import { refuseLossyJson } from './unencodable.js';

const JSON_ENCODING = 'json';
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * Plain JSON only, so that every language can read all inputs and results. Values that JSON would change (Date, Map,
 * bigint, undefined in an object, NaN, -0, class instances, an object that is used twice) are refused.
 */
export const jsonCodec: Codec = {
  encode(value) {
    if (!isPlainJson(value)) refuseLossyJson(value);
    return encodeJson(value);
  },
  decode({ data, encoding }) {
    return isJson(encoding) ? decodeJson(data) : unknownEncoding(encoding, JSON_ENCODING);
  },
};

/** @param value plain JSON; a half of a surrogate pair becomes an escape, so the text has UTF-8 */
export function encodeJson(value: unknown) {
  return { data: Buffer.from(JSON.stringify(value)), encoding: JSON_ENCODING };
}

export function decodeJson(data: Uint8Array): unknown {
  return JSON.parse(decoder.decode(data));
}

export function isJson(encoding: string): boolean {
  return encoding === JSON_ENCODING || encoding === 'application/json';
}
