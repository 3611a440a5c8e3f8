/** What the world has received, by idempotency key: a second call with the same key changes nothing. */
export class World {
  readonly #effects = new Map<string, Map<string, string>>();
  /** Ids of promises that were given away, by run. */
  readonly promises = new Map<string, string>();

  /** @param run the run under test, or the one that a child belongs to */
  act(run: string, key: string, what: string): string {
    const effects = this.#effects.get(run) ?? new Map<string, string>();
    this.#effects.set(run, effects);
    const before = effects.get(key);
    if (before !== undefined) return before;
    effects.set(key, what);
    return what;
  }

  has(run: string, key: string): boolean {
    return this.#effects.get(run)?.has(key) ?? false;
  }

  /** How often each effect has happened, whatever its key. */
  of(run: string): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const what of this.#effects.get(run)?.values() ?? []) counts[what] = (counts[what] ?? 0) + 1;
    return counts;
  }
}
