import { randomBytes } from 'node:crypto';
import { aesGcmCodec, type Codec, devalueCodec, gzipCodec } from '@perdure/worker-sdk';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const key = randomBytes(32);
const codecs: Record<string, Codec> = {
  devalue: devalueCodec,
  gzip: gzipCodec({ minBytes: 0 }),
  'aes-gcm': aesGcmCodec({ keys: { k1: key }, activeKey: 'k1' }),
  'aes-gcm over gzip': aesGcmCodec({ keys: { k1: key }, activeKey: 'k1', inner: gzipCodec({ minBytes: 0 }) }),
};

const anyValue = fc.anything({
  withBigInt: true,
  withDate: true,
  withMap: true,
  withSet: true,
  withTypedArray: false,
  withNullPrototype: false,
});

describe.each(Object.entries(codecs))('codec %s', (_, codec) => {
  it('gives back exactly what was put in', () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        let encoded: ReturnType<Codec['encode']>;
        try {
          encoded = codec.encode(value);
        } catch (error) {
          // Some keys cannot be represented; then it must say so, not lose them.
          expect(error).toBeInstanceOf(Error);
          return;
        }
        expect(Buffer.byteLength(encoded.encoding)).toBeLessThanOrEqual(255);
        expect(codec.decode(encoded)).toStrictEqual(value);
      }),
      { numRuns: 300 },
    );
  });

  it('keeps texts of any kind', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(codec.decode(codec.encode([text, `${text}\ud800`]))).toEqual([text, `${text}\ud800`]);
      }),
    );
  });

  it('keeps bytes, typed arrays, Buffers, errors and cycles', () => {
    const cyclic: Record<string, unknown> = { n: 2 ** 53 + 1, zero: -0 };
    cyclic.self = cyclic;
    const back = codec.decode(codec.encode(cyclic)) as typeof cyclic;
    expect(back.self).toBe(back);
    expect(Object.is(back.zero, -0)).toBe(true);
    for (const value of [new Uint8Array([0, 255]), new Uint8Array(), new Float64Array([1.5]), Buffer.from('x')]) {
      const decoded = codec.decode(codec.encode({ value })) as { value: unknown };
      expect(decoded.value).toEqual(value);
      expect(Buffer.isBuffer(decoded.value)).toBe(Buffer.isBuffer(value));
    }
    expect(codec.decode(codec.encode(new Uint8Array([1])))).toEqual(new Uint8Array([1]));
    const error = codec.decode(codec.encode({ error: new TypeError('t', { cause: new Error('c') }) })) as {
      error: Error;
    };
    expect(error.error).toBeInstanceOf(TypeError);
    expect((error.error.cause as Error).message).toBe('c');
  });

  it('refuses functions and class instances, and pollutes no prototype', () => {
    expect(() => codec.encode({ f: () => 1 })).toThrow();
    expect(() => codec.encode(new (class Money {})())).toThrow();
    for (const json of [
      '[{"__proto__":1},{"polluted":2},true]',
      '[{"constructor":1},{"prototype":2},{"polluted":3},true]',
    ]) {
      try {
        devalueCodec.decode({ data: Buffer.from(json), encoding: 'json/devalue' });
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it('refuses an encoding that it does not know', () => {
    expect(() => codec.decode({ data: new Uint8Array(), encoding: 'mystery' })).toThrow(/mystery/);
  });
});

describe('special codecs', () => {
  it('gzip makes large values smaller, leaves small ones, and refuses what unpacks to too much', () => {
    const codec = gzipCodec({ maxUnpackedBytes: 10_000 });
    expect(codec.encode('x').encoding).toBe('json/devalue');
    const large = codec.encode('x'.repeat(5_000));
    expect(large.encoding).toBe('gzip+json/devalue');
    expect(large.data.byteLength).toBeLessThan(200);
    expect(() => codec.decode(gzipCodec().encode('x'.repeat(50_000)))).toThrow();
  });

  it('aes-gcm hides the value, detects every change, and reads by key id', () => {
    const codec = aesGcmCodec({ keys: { k1: key }, activeKey: 'k1' });
    const sealed = codec.encode({ canary: 'secret-7300' });
    expect(Buffer.from(sealed.data).toString('latin1')).not.toContain('secret');
    expect(codec.encode(1).data).not.toEqual(codec.encode(1).data);
    for (let index = 0; index < sealed.data.byteLength; index += 7) {
      const data = Uint8Array.from(sealed.data);
      data[index] = (data[index] as number) ^ 1;
      expect(() => codec.decode({ ...sealed, data })).toThrow();
    }
    expect(() => codec.decode({ ...sealed, data: sealed.data.subarray(0, 10) })).toThrow(/cut off/);
    expect(() => codec.decode(devalueCodec.encode(1))).toThrow();
    const rotated = aesGcmCodec({ keys: { k1: key, k2: randomBytes(32) }, activeKey: 'k2' });
    expect(rotated.decode(sealed)).toEqual({ canary: 'secret-7300' });
    expect(() => codec.decode(rotated.encode(1))).toThrow(/k2/);
    expect(() => aesGcmCodec({ keys: { k1: randomBytes(16) }, activeKey: 'k1' })).toThrow(/32 bytes/);
    expect(() => aesGcmCodec({ keys: { k1: key }, activeKey: 'toString' })).toThrow(/toString/);
  });
});
