import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type Codec, unknownEncoding } from './codec.js';
import { devalueCodec } from './devalue-codec.js';

const PREFIX = 'aes-256-gcm:';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Options of {@link aesGcmCodec}. */
export interface AesGcmCodecOptions {
  /** Keys of 32 bytes by id; ids are 1 to 64 letters, digits, `-` or `_`. Keep old keys while runs encrypted with them are read. */
  readonly keys: Readonly<Record<string, Uint8Array>>;
  /** Id of the key that encrypts. */
  readonly activeKey: string;
  /** The codec whose output is encrypted; default {@link devalueCodec}. */
  readonly inner?: Codec;
}

/**
 * Encrypts what another codec encodes with AES-256-GCM, so that server and database see only ciphertext; errors are
 * encrypted too. Refuses to read unencrypted payloads, so that write access to the database is not enough to inject one.
 *
 * @throws {TypeError} when a key is not 32 bytes long, an id is malformed, or the active key is missing
 */
export function aesGcmCodec({ keys, activeKey, inner = devalueCodec }: AesGcmCodecOptions): Codec {
  for (const [id, key] of Object.entries(keys)) {
    if (key.byteLength !== 32) throw new TypeError(`Key '${id}' must be 32 bytes long; got ${key.byteLength}.`);
    if (!/^[\w-]{1,64}$/.test(id)) throw new TypeError(`Key id '${id}' must be 1 to 64 letters, digits, '-' or '_'.`);
  }
  const active = Object.hasOwn(keys, activeKey) ? keys[activeKey] : undefined;
  if (active === undefined) throw new TypeError(`activeKey '${activeKey}' is not among the keys.`);

  return {
    encrypts: true,
    encode(value) {
      const plain = inner.encode(value);
      const encoding = `${PREFIX}${activeKey}+${plain.encoding}`;
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', active, nonce);
      cipher.setAAD(Buffer.from(encoding));
      const sealed = Buffer.concat([nonce, cipher.update(plain.data), cipher.final(), cipher.getAuthTag()]);
      return { data: sealed, encoding };
    },
    decode({ data, encoding }) {
      const plus = encoding.indexOf('+');
      if (!encoding.startsWith(PREFIX) || plus < 0) return unknownEncoding(encoding, 'aes-256-gcm');
      const keyId = encoding.slice(PREFIX.length, plus);
      const key = Object.hasOwn(keys, keyId) ? keys[keyId] : undefined;
      if (key === undefined)
        throw new Error(`A payload was encrypted with key '${keyId}', which this codec does not have.`);
      if (data.byteLength < NONCE_BYTES + TAG_BYTES) throw new Error('An encrypted payload is cut off.');
      const decipher = createDecipheriv('aes-256-gcm', key, data.subarray(0, NONCE_BYTES));
      decipher.setAAD(Buffer.from(encoding));
      decipher.setAuthTag(data.subarray(data.byteLength - TAG_BYTES));
      const plain = Buffer.concat([
        decipher.update(data.subarray(NONCE_BYTES, data.byteLength - TAG_BYTES)),
        decipher.final(),
      ]);
      return inner.decode({ data: plain, encoding: encoding.slice(plus + 1) });
    },
  };
}
