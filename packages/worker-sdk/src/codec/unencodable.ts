import { DevalueError } from 'devalue';
import { isPlainJson } from './plain-json.js';

const ALLOWED =
  'Expected JSON values, undefined, bigint, Date, Map, Set, RegExp, URL, typed arrays, Error, and arrays and plain objects of these.';

/** What devalue throws, with the place in the value, and what is there, in words that do not mention devalue. */
export function unencodable(error: unknown): unknown {
  if (!(error instanceof DevalueError)) return error;
  return new TypeError(`${error.path || 'it'} is ${kindOf(error.value)}. ${ALLOWED}`);
}

/** @throws {TypeError} naming the first part of the value that JSON would lose */
export function refuseLossyJson(value: unknown, path = '', above: readonly unknown[] = []): void {
  if (typeof value === 'object' && value !== null && isContainer(value) && !above.includes(value)) {
    for (const [key, inner] of Object.entries(value)) {
      const place = Array.isArray(value) ? `[${key}]` : /^[\w$]+$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
      if (!isPlainJson(inner)) refuseLossyJson(inner, path + place, [...above, value]);
    }
  }
  const kind = above.includes(value) ? 'a reference to an object around it' : kindOf(value);
  throw new TypeError(
    `${path || 'it'} is ${kind}. Expected null, booleans, strings, finite numbers, and arrays and plain objects of these, each used once.`,
  );
}

function isContainer(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Array.prototype || prototype === Object.prototype;
}

function kindOf(value: unknown): string {
  switch (typeof value) {
    case 'function':
      return 'a function';
    case 'symbol':
      return 'a symbol';
    case 'bigint':
      return 'a bigint';
    case 'undefined':
      return 'undefined';
    case 'number':
      return Object.is(value, -0) ? '-0' : String(value);
    case 'object':
      return value === null ? 'null' : kindOfObject(value);
    default:
      return `a ${typeof value}`;
  }
}

function kindOfObject(value: object): string {
  if (value instanceof Promise) return 'a Promise (an await is missing)';
  if (Array.isArray(value)) return 'an array with holes, or with an element that is used twice';
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === null) return 'an object without a prototype';
  if (prototype !== Object.prototype) {
    const { name } = (value.constructor ?? {}) as { name?: unknown };
    return typeof name === 'string' && name !== '' ? `an instance of ${name}` : 'an instance of a class';
  }
  if (Object.getOwnPropertySymbols(value).length > 0) return 'an object with symbols as keys';
  if (Object.hasOwn(value, '__proto__')) return "an object with the key '__proto__'";
  return 'an object that is used twice or contains itself';
}
