import { parse, stringify } from 'devalue';
import { type Codec, unknownEncoding } from './codec.js';
import { errorReducers, errorRevivers } from './error-values.js';

const ENCODING = 'json/devalue';
const BYTES_ENCODING = 'bytes';
const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const decoder = new TextDecoder('utf-8', { fatal: true });

/**
 * The default codec: JSON (by devalue) that keeps Date, bigint, undefined, NaN, -0, Map, Set, RegExp, URL, typed arrays,
 * Error (name, message, stack, code, cause), repeated and cyclic references. A value that is a Uint8Array is kept as it is.
 * Functions, symbols and instances of other classes are refused.
 */
export const devalueCodec: Codec = {
  encode(value) {
    if (value instanceof Uint8Array && !Buffer.isBuffer(value)) return { data: value, encoding: BYTES_ENCODING };
    return { data: Buffer.from(escapeLoneSurrogates(stringify(value, errorReducers))), encoding: ENCODING };
  },
  decode({ data, encoding }) {
    switch (encoding) {
      case BYTES_ENCODING:
        return new Uint8Array(data);
      case ENCODING:
        return parse(decoder.decode(data), errorRevivers);
      // For runs started by hand, with curl or another language.
      case 'json':
      case 'application/json':
        return JSON.parse(decoder.decode(data)) as unknown;
      default:
        return unknownEncoding(encoding, 'json/devalue, bytes, json');
    }
  },
};

/** Half of a surrogate pair has no UTF-8; as an escape it survives. */
function escapeLoneSurrogates(json: string): string {
  if (json.isWellFormed()) return json;
  return json.replace(LONE_SURROGATE, (half) => `\\u${half.charCodeAt(0).toString(16)}`);
}
