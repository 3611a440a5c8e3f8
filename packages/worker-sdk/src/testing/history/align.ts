/** One line of a comparison: what is in both, what is only expected, what is only there. */
export type Aligned<Actual, Expected> =
  | { readonly kind: 'same'; readonly actual: Actual }
  | { readonly kind: 'missing'; readonly expected: Expected }
  | { readonly kind: 'extra'; readonly actual: Actual };

/** Aligns two lists by their longest common subsequence. */
export function align<Actual, Expected>(
  actual: readonly Actual[],
  expected: readonly Expected[],
  fits: (actual: Actual, expected: Expected) => boolean,
): Aligned<Actual, Expected>[] {
  const rows = Array.from({ length: actual.length + 1 }, () => new Array<number>(expected.length + 1).fill(0));
  const at = (a: number, e: number) => rows[a]?.[e] ?? 0;
  for (let a = actual.length - 1; a >= 0; a--) {
    for (let e = expected.length - 1; e >= 0; e--) {
      const same = fits(actual[a] as Actual, expected[e] as Expected) ? at(a + 1, e + 1) + 1 : 0;
      (rows[a] as number[])[e] = Math.max(same, at(a + 1, e), at(a, e + 1));
    }
  }
  const lines: Aligned<Actual, Expected>[] = [];
  for (let a = 0, e = 0; a < actual.length || e < expected.length; ) {
    const isSame =
      a < actual.length &&
      e < expected.length &&
      fits(actual[a] as Actual, expected[e] as Expected) &&
      at(a, e) === at(a + 1, e + 1) + 1;
    if (isSame) {
      lines.push({ kind: 'same', actual: actual[a++] as Actual });
      e++;
    } else if (e < expected.length && (a >= actual.length || at(a, e + 1) >= at(a + 1, e))) {
      lines.push({ kind: 'missing', expected: expected[e++] as Expected });
    } else {
      lines.push({ kind: 'extra', actual: actual[a++] as Actual });
    }
  }
  return lines;
}
