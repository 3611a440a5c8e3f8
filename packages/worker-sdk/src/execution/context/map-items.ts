import type { MapOptions } from '../../child.js';
import { refuseUnknownKeys } from '../../options.js';
import { shown } from '../../text.js';

/**
 * Calls a function for each item, at most `concurrency` at a time. It begins the next call when one has ended, which is in the order
 * of results, so a replay begins them in the same order.
 *
 * @returns the results in the order of the items
 * @throws {TypeError} when the concurrency cannot be used
 * @throws what the first call that fails throws; no further one is begun
 */
export async function mapItems<Item, Result>(
  items: Iterable<Item>,
  call: (item: Item, index: number) => Result | PromiseLike<Result>,
  options: MapOptions = {},
): Promise<Awaited<Result>[]> {
  refuseUnknownKeys('ctx.map', options, ['concurrency']);
  const { concurrency = Number.POSITIVE_INFINITY } = options;
  if (!(concurrency >= 1)) throw new TypeError(`concurrency must be at least 1; got ${shown(concurrency)}.`);
  const all = [...items];
  const results = new Array<Awaited<Result>>(all.length);
  let next = 0;
  let hasFailed = false;
  const lane = async () => {
    while (next < all.length && !hasFailed) {
      const index = next++;
      try {
        results[index] = await call(all[index] as Item, index);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(Math.floor(concurrency), all.length) }, lane));
  return results;
}
