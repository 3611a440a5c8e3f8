/**
 * Array parameters as PostgreSQL array literals. Built here, once per batch, because the driver's own array support looks
 * types up at connect and walks every element through its serializers.
 */

/** Numbers, booleans and UUIDs: nothing that needs quotes. */
export function plainArray(values: readonly (string | number | boolean | null)[]): string {
  let literal = '{';
  for (let i = 0; i < values.length; i++) {
    if (i > 0) literal += ',';
    literal += values[i] ?? 'NULL';
  }
  return `${literal}}`;
}

/** Text of any content but NUL. */
export function textArray(values: readonly (string | null)[]): string {
  let literal = '{';
  for (let i = 0; i < values.length; i++) {
    if (i > 0) literal += ',';
    const value = values[i] as string | null;
    literal += value === null ? 'NULL' : `"${value.replace(/["\\]/g, '\\$&')}"`;
  }
  return `${literal}}`;
}

/** Bytes, in hex. */
export function byteaArray(values: readonly (Uint8Array | null)[]): string {
  let literal = '{';
  for (let i = 0; i < values.length; i++) {
    if (i > 0) literal += ',';
    const value = values[i] as Uint8Array | null;
    literal +=
      value === null
        ? 'NULL'
        : `"\\\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}"`;
  }
  return `${literal}}`;
}

/** JSON documents. JSON.stringify escapes control characters; NUL must be gone already. */
export function jsonArray(values: readonly (object | null)[]): string {
  return textArray(values.map((value) => (value === null ? null : JSON.stringify(value))));
}

/** Timestamps with ms. */
export function timestampArray(values: readonly (Date | null)[]): string {
  return plainArray(values.map((value) => (value === null ? null : `"${value.toISOString()}"`)));
}
