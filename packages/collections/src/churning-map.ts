/** Writes after which the map is rebuilt, and the smallest multiple of its size that they must reach. */
const RENEW_AFTER_WRITES = 1_000;
const RENEW_AFTER_SIZES = 4;

/**
 * A Map for entries that change all the time, such as unanswered calls.
 *
 * V8's Map replaces its table after a number of writes, and the old table points to the new one. Once one of them has reached
 * the old generation, every later table is kept by the one before it until the next full collection, and with the
 * tables all entries that were ever in the map: every young collection then copies dead objects. Under load that was a quarter of a
 * worker's CPU time. A new Map from time to time breaks the chain; it costs less than one write in four.
 *
 * Iterates in the order of insertion. An iteration may or may not see changes that are made during it.
 */
export class ChurningMap<K, V> implements Iterable<[K, V]> {
  #map = new Map<K, V>();
  #writes = 0;

  get size(): number {
    return this.#map.size;
  }

  get(key: K): V | undefined {
    return this.#map.get(key);
  }

  has(key: K): boolean {
    return this.#map.has(key);
  }

  set(key: K, value: V): void {
    if (++this.#writes > RENEW_AFTER_WRITES && this.#writes > RENEW_AFTER_SIZES * this.#map.size) {
      this.#writes = 0;
      this.#map = new Map(this.#map);
    }
    this.#map.set(key, value);
  }

  /** @returns whether the entry existed */
  delete(key: K): boolean {
    return this.#map.delete(key);
  }

  clear(): void {
    this.#map = new Map();
  }

  keys(): IterableIterator<K> {
    return this.#map.keys();
  }

  values(): IterableIterator<V> {
    return this.#map.values();
  }

  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.#map.entries();
  }
}
