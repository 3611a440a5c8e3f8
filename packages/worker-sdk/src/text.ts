/** Ids and names that the server stores: not empty, without control characters, and no more bytes than this. */
export const MAX_ID_BYTES = 255;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for.
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;
/** Half of a surrogate pair, which has no UTF-8. */
export const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** @throws {TypeError} unless it can be stored as an id or a name */
export function checkId(what: string, value: unknown, maxBytes: number = MAX_ID_BYTES): asserts value is string {
  const isValid =
    typeof value === 'string' &&
    value !== '' &&
    // Most ids are so short that their bytes need not be counted.
    (value.length * 3 <= maxBytes || Buffer.byteLength(value) <= maxBytes) &&
    !CONTROL.test(value) &&
    value.isWellFormed();
  if (isValid) return;
  throw new TypeError(
    `${what} must be a string of 1 to ${maxBytes} bytes without control characters; got ${shown(value)}.`,
  );
}

/** A value for an error message, never long. */
export function shown(value: unknown): string {
  const text = textOf(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function textOf(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // Cyclic, or its conversion throws: show its kind.
    try {
      return Object.prototype.toString.call(value);
    } catch {
      return 'a value that cannot be shown';
    }
  }
}
