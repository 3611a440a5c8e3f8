/**
 * Array parameters as PostgreSQL array literals, one element per command. Built here, once per batch, because the driver's
 * own array support looks types up at connect and walks every element through its serializers.
 *
 * @param of gives the element of an item; null and undefined become NULL
 */
const self = (value: unknown): never => value as never;

type Plain = string | number | boolean | null | undefined;

/** Numbers, booleans, UUIDs and names of Perdure, which need no quotes. */
export function plainArray<T = Plain>(items: readonly T[], of: (item: T) => Plain = self): string {
  let literal = '{';
  for (let i = 0; i < items.length; i++) {
    if (i > 0) literal += ',';
    literal += of(items[i] as T) ?? 'NULL';
  }
  return `${literal}}`;
}

const NEEDS_ESCAPE = /["\\]/;

/** Text of any content but NUL. */
export function textArray<T = string>(items: readonly T[], of: (item: T) => string | null | undefined = self): string {
  let literal = '{';
  for (let i = 0; i < items.length; i++) {
    if (i > 0) literal += ',';
    const value = of(items[i] as T);
    if (value == null) literal += 'NULL';
    else literal += NEEDS_ESCAPE.test(value) ? `"${value.replace(/["\\]/g, '\\$&')}"` : `"${value}"`;
  }
  return `${literal}}`;
}

/** Bytes, in hex. */
export function byteaArray<T = Uint8Array>(
  items: readonly T[],
  of: (item: T) => Uint8Array | null | undefined = self,
): string {
  let literal = '{';
  for (let i = 0; i < items.length; i++) {
    if (i > 0) literal += ',';
    const value = of(items[i] as T);
    literal += value == null ? 'NULL' : `"\\\\x${hexOf(value)}"`;
  }
  return `${literal}}`;
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

/** JSON documents. JSON.stringify escapes control characters; NUL must be gone already. */
export function jsonArray<T = object>(items: readonly T[], of: (item: T) => object | null | undefined = self): string {
  return textArray(items, (item) => {
    const value = of(item);
    return value == null ? null : JSON.stringify(value);
  });
}

/** Timestamps with ms. */
export function timestampArray<T = Date>(items: readonly T[], of: (item: T) => Date | null | undefined = self): string {
  return plainArray(items, (item) => {
    const value = of(item);
    return value == null ? null : `"${value.toISOString()}"`;
  });
}
