import { randomBytes } from 'node:crypto';
import { aesGcmCodec, type Codec, devalueCodec, gzipCodec, jsonCodec } from '@perdure/worker-sdk';
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
  it('a codec returns exactly the value that was encoded', () => {
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

  it('a codec keeps every text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(codec.decode(codec.encode([text, `${text}\ud800`]))).toEqual([text, `${text}\ud800`]);
      }),
    );
  });

  it('a codec keeps bytes, typed arrays, Buffers, errors and cycles', () => {
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

  it('a codec refuses functions and class instances, and pollutes no prototype', () => {
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

  it('a codec refuses an unknown encoding', () => {
    expect(() => codec.decode({ data: new Uint8Array(), encoding: 'mystery' })).toThrow(/mystery/);
  });
});

describe('values that JSON keeps', () => {
  const isExact = (value: unknown) => {
    try {
      expect(JSON.parse(JSON.stringify(value))).toStrictEqual(value);
      return true;
    } catch {
      return false;
    }
  };

  it('a value is encoded as JSON exactly when JSON returns an equal value', () => {
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), anyValue), (value) => {
        let encoded: ReturnType<Codec['encode']>;
        try {
          encoded = devalueCodec.encode(value);
        } catch {
          return;
        }
        const isPlain = encoded.encoding === 'json';
        if (isPlain) expect(JSON.parse(Buffer.from(encoded.data).toString())).toStrictEqual(value);
        // No values but those that only seem equal, such as the same object twice, go the other way in vain.
        else expect(isExact(value) && !hasRepeated(value)).toBe(false);
      }),
      { numRuns: 1_000 },
    );
  });

  it('a value encoded as JSON has the bytes that another language writes and reads', () => {
    const samples: [unknown, string][] = [
      [{ who: 'you', n: [1, 2.5, null, true] }, '{"who":"you","n":[1,2.5,null,true]}'],
      ['Zürich \ud83d\ude00 \ud800', '"Zürich \ud83d\ude00 \\ud800"'],
      [{ constructor: 1, toString: 'x', '': 0 }, '{"constructor":1,"toString":"x","":0}'],
    ];
    for (const [value, text] of samples) {
      const encoded = devalueCodec.encode(value);
      expect(encoded.encoding).toBe('json');
      expect(Buffer.from(encoded.data).toString()).toBe(text);
      expect(jsonCodec.encode(value)).toEqual(encoded);
      expect(devalueCodec.decode({ data: Buffer.from(text), encoding: 'application/json' })).toEqual(value);
    }
  });

  it.each([
    ['undefined in an object', { a: undefined }],
    ['a hole', new Array(1)],
    ['-0', [-0]],
    ['NaN', Number.NaN],
    ['Infinity', { a: Number.POSITIVE_INFINITY }],
    ['a Date', { at: new Date(0) }],
    ['a Map', new Map([[1, 2]])],
    ['a bigint', 1n],
    ['bytes in an object', { a: new Uint8Array([1]) }],
    ['an object without a prototype', Object.assign(Object.create(null), { a: 1 })],
    ['the same object twice', repeated()],
    ['the same object twice among many', Array.from({ length: 20 }, () => ({})).concat([repeated() as never])],
  ])('%s is not encoded as JSON, and is decoded to an equal value', (_, value) => {
    const encoded = devalueCodec.encode(value);
    expect(encoded.encoding).toBe('json/devalue');
    expect(devalueCodec.decode(encoded)).toStrictEqual(value);
    expect(() => jsonCodec.encode(value)).toThrow(TypeError);
  });

  it('keys such as __proto__ change no prototype', () => {
    const hostile = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}';
    const decoded = devalueCodec.decode({ data: Buffer.from(hostile), encoding: 'json' }) as { polluted?: unknown };
    expect(Object.getPrototypeOf(decoded)).toBe(Object.prototype);
    expect(decoded.polluted).toBeUndefined();
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
    expect(() => devalueCodec.encode(decoded)).toThrow(/__proto__/);
  });

  it('deep and large values come back', () => {
    let deep: unknown = 1;
    for (let depth = 0; depth < 1_000; depth++) deep = depth % 2 === 0 ? [deep] : { deep };
    const wide = Array.from({ length: 10_000 }, (_, n) => ({ n }));
    for (const value of [deep, wide]) expect(devalueCodec.decode(devalueCodec.encode(value))).toEqual(value);
    expect(devalueCodec.encode(wide).encoding).toBe('json');
  });
});

describe('values that cannot be encoded', () => {
  class Money {}

  it.each([
    [devalueCodec, { items: [1, 2, { fn: () => 1 }] }, '.items[2].fn is a function. Expected'],
    [devalueCodec, { price: new Money() }, '.price is an instance of Money. Expected'],
    [devalueCodec, new Money(), 'it is an instance of Money. Expected'],
    [devalueCodec, [Symbol('s')], '[0] is a symbol. Expected'],
    [devalueCodec, { later: Promise.resolve() }, '.later is a Promise (an await is missing). Expected'],
    [devalueCodec, { [Symbol('s')]: 1 }, 'it is an object with symbols as keys. Expected'],
    [jsonCodec, { items: [{ at: new Date(0) }] }, '.items[0].at is an instance of Date. Expected'],
    [jsonCodec, { 'a b': [undefined] }, '["a b"][0] is undefined. Expected'],
    [jsonCodec, [-0], '[0] is -0. Expected'],
    [jsonCodec, repeated(), 'used twice'],
    [jsonCodec, cyclic(), '.self is a reference to an object around it'],
  ])('a value that cannot be encoded is refused with its place and its kind: %#', (codec, value, message) => {
    expect(() => codec.encode(value)).toThrow(TypeError);
    expect(() => codec.encode(value)).toThrow(message);
  });
});

function repeated(): unknown {
  const part = { a: 1 };
  return { one: part, other: part };
}

function cyclic(): unknown {
  const value: Record<string, unknown> = {};
  value.self = value;
  return value;
}

function hasRepeated(value: unknown, seen = new Set<unknown>()): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (seen.has(value)) return true;
  seen.add(value);
  return Object.values(value).some((inner) => hasRepeated(inner, seen));
}

describe('special codecs', () => {
  it('gzip makes large values smaller, leaves small ones, and refuses what unpacks to too much', () => {
    const codec = gzipCodec({ maxUnpackedBytes: 10_000 });
    expect(codec.encode('x').encoding).toBe('json');
    const large = codec.encode('x'.repeat(5_000));
    expect(large.encoding).toBe('gzip+json');
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
