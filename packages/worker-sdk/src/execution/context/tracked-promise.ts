import type { Settle } from '../step/step-host.js';

/** Adds the id of a step to `unawaited` until its promise is awaited. */
type Track = (stepId: string, unawaited: Set<string>) => void;

/**
 * A promise that knows whether it was awaited: a step whose promise nobody awaits is most often a missing `await`.
 * `await`, `Promise.all` and other combinators call `then`, as they do for every subclass of Promise.
 */
class TrackedPromise<T> extends Promise<T> {
  /** `then`, `catch` and `finally` return plain promises. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  #stepId = '';
  #unawaited: Set<string> | undefined;

  track(stepId: string, unawaited: Set<string>): void {
    this.#stepId = stepId;
    this.#unawaited = unawaited;
    unawaited.add(stepId);
  }

  // biome-ignore lint/suspicious/noThenProperty: this is a promise.
  override then<A = T, B = never>(
    onValue?: ((value: T) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#unawaited?.delete(this.#stepId);
    this.#unawaited = undefined;
    return super.then(onValue, onError);
  }
}

/** A promise that `begin` settles later, or never; a rejection that nobody awaits must not end the process. */
export function settledBy<T>(begin: (settle: Settle, track: Track) => void): Promise<T> {
  let resolve: (value: never) => void = () => undefined;
  let rejectPromise: (error: unknown) => void = () => undefined;
  const promise = new TrackedPromise<T>((onValue, onError) => {
    resolve = onValue;
    rejectPromise = onError;
  });
  const reject = (error: unknown) => {
    Promise.prototype.then.call(promise, undefined, () => undefined);
    rejectPromise(error);
  };
  try {
    begin({ resolve: resolve as Settle['resolve'], reject }, (stepId, unawaited) => promise.track(stepId, unawaited));
  } catch (error) {
    reject(error);
  }
  return promise;
}
