import { parse, stringify } from 'devalue';
import { LONE_SURROGATE } from '../text.js';
import { type Codec, unknownEncoding } from './codec.js';
import { errorReducers, errorRevivers } from './error-values.js';
import { decodeJson, encodeJson, isJson } from './json-codec.js';
import { isPlainJson } from './plain-json.js';
import { unencodable } from './unencodable.js';

const ENCODING = 'json/devalue';
const BYTES_ENCODING = 'bytes';
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * The default codec. A value that JSON preserves exactly is encoded as JSON, which every language reads. Others are encoded in
 * devalue's form of JSON, which preserves Date, bigint, undefined, NaN, -0, Map, Set, RegExp, URL, typed arrays, Error (name, message, stack,
 * code, cause), repeated and cyclic references. A value that is a Uint8Array is kept as it is. Functions, symbols and
 * instances of other classes are refused, with their place in the value.
 */
export const devalueCodec: Codec = {
  encode(value) {
    if (isPlainJson(value)) return encodeJson(value);
    if (value instanceof Uint8Array && !Buffer.isBuffer(value)) return { data: value, encoding: BYTES_ENCODING };
    try {
      return { data: Buffer.from(escapeLoneSurrogates(stringify(value, errorReducers))), encoding: ENCODING };
    } catch (error) {
      throw unencodable(error);
    }
  },
  decode({ data, encoding }) {
    if (isJson(encoding)) return decodeJson(data);
    if (encoding === BYTES_ENCODING) return new Uint8Array(data);
    if (encoding === ENCODING) return parse(decoder.decode(data), errorRevivers);
    return unknownEncoding(encoding, 'json, json/devalue, bytes');
  },
};

/** Half of a surrogate pair has no UTF-8; as an escape it survives. */
function escapeLoneSurrogates(json: string): string {
  if (json.isWellFormed()) return json;
  return json.replace(LONE_SURROGATE, (half) => `\\u${half.charCodeAt(0).toString(16)}`);
}
