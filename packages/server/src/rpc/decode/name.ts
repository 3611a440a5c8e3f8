import type { Checker } from './checker.js';

/** Longest name of a signal or an event, in UTF-8 bytes: a step is named after it. */
const MAX_NAME_BYTES = 200;

export function decodeName(check: Checker, field: string, name: string): string {
  if (name === '') check.violate(field, `must be given: 1 to ${MAX_NAME_BYTES} bytes.`);
  return check.optionalId(field, name, MAX_NAME_BYTES);
}
