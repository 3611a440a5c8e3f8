// node --expose-gc test/dist/programs/churn.js churning|plain
// Prints by how many bytes the old generation has grown while entries of about 4 KB came and went, 200 at a time.
import { getHeapSpaceStatistics } from 'node:v8';
import { ChurningMap } from '@perdure/collections';

const oldBytes = () => getHeapSpaceStatistics().find((space) => space.space_name === 'old_space')?.space_used_size ?? 0;
const map = process.argv[2] === 'plain' ? new Map<number, unknown>() : new ChurningMap<number, unknown>();
let mostBytes = 0;
let beforeBytes = 0;
for (let n = 0; n < 40_000; n++) {
  if (n === 10_000) {
    globalThis.gc?.();
    beforeBytes = oldBytes();
  }
  map.set(
    n,
    Array.from({ length: 100 }, (_, i) => ({ n, i })),
  );
  map.delete(n - 200);
  if (n > 10_000 && n % 100 === 0) mostBytes = Math.max(mostBytes, oldBytes() - beforeBytes);
}
console.log(mostBytes);
