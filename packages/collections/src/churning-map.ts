/** Writes after which the map is made anew, and how many times its size they must be at least. */
const RENEW_AFTER_WRITES = 1_000;
const RENEW_AFTER_SIZES = 4;

/**
 * A Map for entries that come and go all the time, such as calls that wait for an answer.
 *
 * V8's Map replaces its table every so many writes, and the old table points to the new one. Once one of them has reached
 * the old generation, every table that follows is kept by the one before it until the next full collection, and with them
 * all that was ever in the map: every young collection then copies what has long ended. Under load that was a quarter of a
 * worker's CPU time. A new Map now and then breaks the chain; it costs less than one write in four.
 *
 * Iterates in the order of insertion. What is changed while somebody iterates may or may not be seen.
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

  /** @returns whether it was there */
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
