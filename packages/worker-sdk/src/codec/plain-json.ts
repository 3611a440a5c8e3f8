/** Deeper values are not checked for plain JSON: bounds the recursion. */
const MAX_DEPTH = 200;
/** Up to this many objects are searched linearly; more are kept in a Set. */
const FEW_OBJECTS = 8;

/**
 * Whether `JSON.parse(JSON.stringify(value))` gives back an equal value: null, booleans, texts, finite numbers but -0, and
 * arrays and plain objects of these, each of which occurs once. One pass, since every payload goes through it.
 */
export function isPlainJson(value: unknown): boolean {
  return new PlainJsonCheck().check(value, 0);
}

class PlainJsonCheck {
  readonly #few: object[] = [];
  #many: Set<object> | undefined;

  check(value: unknown, depth: number): boolean {
    switch (typeof value) {
      case 'string':
      case 'boolean':
        return true;
      case 'number':
        return value === 0 ? 1 / value > 0 : Number.isFinite(value);
      case 'object':
        return value === null || (depth < MAX_DEPTH && this.#isFirst(value) && this.#checkObject(value, depth));
      default:
        return false;
    }
  }

  #checkObject(value: object, depth: number): boolean {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === Array.prototype) {
      const array = value as readonly unknown[];
      // A hole reads as undefined, which JSON does not have.
      for (let index = 0; index < array.length; index++) if (!this.check(array[index], depth + 1)) return false;
      return true;
    }
    if (prototype !== Object.prototype || Object.hasOwn(value, '__proto__')) return false;
    for (const key in value) if (!this.check((value as Record<string, unknown>)[key], depth + 1)) return false;
    return Object.getOwnPropertySymbols(value).length === 0;
  }

  /** A second reference would become a second object, and a cycle would have no end. */
  #isFirst(value: object): boolean {
    if (this.#many !== undefined) {
      const { size } = this.#many;
      return this.#many.add(value).size > size;
    }
    if (this.#few.includes(value)) return false;
    this.#few.push(value);
    if (this.#few.length === FEW_OBJECTS) this.#many = new Set(this.#few);
    return true;
  }
}
