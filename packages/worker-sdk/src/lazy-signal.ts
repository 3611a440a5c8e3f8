/** An AbortSignal that is created on first use: most code never uses it. */
export class LazySignal {
  #controller: AbortController | undefined;
  #reason: Error | undefined;

  /** Why it was aborted; undefined while it is not. */
  get reason(): Error | undefined {
    return this.#reason;
  }

  /** The signal has been used. */
  get isWatched(): boolean {
    return this.#controller !== undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** The first reason stays. */
  abort(reason: Error): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}
