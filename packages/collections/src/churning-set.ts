import { ChurningMap } from './churning-map.js';

/** A Set for members that change all the time; {@link ChurningMap} says why, and what iterating sees. */
export class ChurningSet<T> implements Iterable<T> {
  readonly #map = new ChurningMap<T, true>();

  get size(): number {
    return this.#map.size;
  }

  has(member: T): boolean {
    return this.#map.has(member);
  }

  add(member: T): void {
    this.#map.set(member, true);
  }

  /** @returns whether the member existed */
  delete(member: T): boolean {
    return this.#map.delete(member);
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#map.keys();
  }
}
