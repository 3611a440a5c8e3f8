import { isDeepStrictEqual } from 'node:util';
import { shown } from '../../text.js';

/** A place at which two values differ. */
export interface Difference {
  /** For example `result.items[2].cents`. */
  readonly path: string;
  readonly expected: unknown;
  readonly actual: unknown;
}

const MISSING = Symbol('missing');

/** All places at which two comparable values differ, from the outside in. */
export function differences(expected: unknown, actual: unknown, path = ''): Difference[] {
  if (isDeepStrictEqual(expected, actual)) return [];
  if (!isContainer(expected) || !isContainer(actual) || Array.isArray(expected) !== Array.isArray(actual)) {
    return [{ path, expected, actual }];
  }
  const keys = new Set([...Object.keys(expected), ...Object.keys(actual)]);
  return [...keys].flatMap((key) => {
    const below = Array.isArray(expected) ? `${path}[${key}]` : path === '' ? key : `${path}.${key}`;
    return differences(partOf(expected, key), partOf(actual, key), below);
  });
}

export function lineOfDifference({ path, expected, actual }: Difference): string {
  return `${path}: without a crash ${textOf(expected)}, with it ${textOf(actual)}`;
}

/** Longest text of a value, in characters: an error with its causes must be readable. */
const MAX_SHOWN = 1_000;

function textOf(value: unknown): string {
  if (value === MISSING) return 'nothing';
  const text = JSON.stringify(value) ?? shown(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

const partOf = (value: object, key: string) =>
  Object.hasOwn(value, key) ? (value as Readonly<Record<string, unknown>>)[key] : MISSING;
const isContainer = (value: unknown): value is object => typeof value === 'object' && value !== null;
