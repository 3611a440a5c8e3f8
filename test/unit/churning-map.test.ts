import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ChurningMap, ChurningSet } from '@perdure/collections';
import { describe, expect, it } from 'vitest';

describe('ChurningMap', () => {
  it('a ChurningMap behaves like a Map over any number of writes', () => {
    const churning = new ChurningMap<number, string>();
    const plain = new Map<number, string>();
    let seed = 1;
    for (let n = 0; n < 20_000; n++) {
      seed = (seed * 48_271) % 2_147_483_647;
      const key = seed % 500;
      if (seed % 3 === 0) expect(churning.delete(key)).toBe(plain.delete(key));
      else {
        churning.set(key, `v${n}`);
        plain.set(key, `v${n}`);
      }
      expect(churning.size).toBe(plain.size);
      expect(churning.get(key)).toBe(plain.get(key));
      expect(churning.has(key)).toBe(plain.has(key));
    }
    expect([...churning]).toEqual([...plain]);
    expect([...churning.keys()]).toEqual([...plain.keys()]);
    expect([...churning.values()]).toEqual([...plain.values()]);
    churning.clear();
    expect([...churning]).toEqual([]);
  });

  it('a ChurningMap does not keep removed entries until the next full collection', () => {
    const program = fileURLToPath(new URL('../dist/programs/churn.js', import.meta.url));
    const keptBytes = (kind: 'churning' | 'plain') =>
      Number(execFileSync(process.execPath, ['--expose-gc', '--max-semi-space-size=16', program, kind]));
    const churning = keptBytes('churning');
    expect(churning).toBeLessThan(8e6);
    // What it is there for: a Map keeps it.
    expect(keptBytes('plain')).toBeGreaterThan(3 * churning);
  });
});

describe('ChurningSet', () => {
  it('a ChurningSet keeps members once, in the order of insertion', () => {
    const set = new ChurningSet<string>();
    for (let n = 0; n < 5_000; n++) {
      set.add(`m${n}`);
      if (n >= 3) expect(set.delete(`m${n - 3}`)).toBe(true);
    }
    set.add('m4999');
    expect([...set]).toEqual(['m4997', 'm4998', 'm4999']);
    expect(set.size).toBe(3);
    expect(set.has('m4998')).toBe(true);
    expect(set.delete('m0')).toBe(false);
  });
});
