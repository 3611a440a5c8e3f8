import { distance } from 'fastest-levenshtein';

/** Largest edit distance between a mistyped name and the one that is suggested. */
const MAX_TYPOS = 4;

/**
 * @param owner for the error, for example `A start`
 * @throws {TypeError} naming the first unknown key, and the known one that was probably meant
 */
export function refuseUnknownKeys(owner: string, given: object, known: readonly string[]): void {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue;
    throw new TypeError(
      `${owner} has no option '${key}'${didYouMean(key, known)} Expected one of: ${known.join(', ')}.`,
    );
  }
}

/** @returns `; did you mean 'x'?`, or a full stop when no known name is similar */
export function didYouMean(given: string, known: readonly string[]): string {
  const word = given.toLowerCase();
  const near = known
    .map((name) => ({ name, typos: distance(word, name.toLowerCase()) }))
    .filter(({ name, typos }) => typos <= MAX_TYPOS && typos < name.length / 2)
    .sort((one, other) => one.typos - other.typos)[0];
  return near === undefined ? '.' : `; did you mean '${near.name}'?`;
}
