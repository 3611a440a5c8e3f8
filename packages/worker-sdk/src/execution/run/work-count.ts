/** Counts the work in flight of a run that needs its lease. */
export class WorkCount {
  readonly #onEnd: () => void;
  #count = 0;

  /** @param onEnd called whenever a piece of work has ended */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  get count(): number {
    return this.#count;
  }

  get isZero(): boolean {
    return this.#count === 0;
  }

  begin(): void {
    this.#count++;
  }

  end(): void {
    this.#count--;
    this.#onEnd();
  }

  async during<T>(work: () => Promise<T>): Promise<T> {
    this.begin();
    try {
      return await work();
    } finally {
      this.end();
    }
  }
}
