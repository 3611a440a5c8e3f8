import type { Settle } from '../step/step-host.js';

/** A class cannot declare an accessor of this name in plain words. */
const CONSTRUCTOR = 'constructor';

/** Adds the id of a step to `unawaited` until its promise is awaited. */
export type Track = (stepId: string, unawaited: Set<string>) => void;

/**
 * A promise that knows whether it was awaited: a step whose promise nobody awaits is most often a missing `await`.
 *
 * Whatever awaits a promise reads its `constructor` first: `await` and the combinators, to see whether it is a promise of theirs,
 * and `then`, to make the promise that it returns. Told `Promise`, they take this one as it is. A subclass with a `then` of its
 * own costs each `await` two more promises and two turns of the microtask queue.
 */
class TrackedPromise<T> extends Promise<T> {
  #stepId = '';
  #unawaited: Set<string> | undefined;

  override get [CONSTRUCTOR](): PromiseConstructor {
    this.#unawaited?.delete(this.#stepId);
    this.#unawaited = undefined;
    return Promise;
  }

  track(stepId: string, unawaited: Set<string>): void {
    this.#stepId = stepId;
    this.#unawaited = unawaited;
    unawaited.add(stepId);
  }

  /** A rejection that nobody awaits must not end the process; that is not awaiting it. */
  markHandled(): void {
    const unawaited = this.#unawaited;
    this.#unawaited = undefined;
    this.then(undefined, () => undefined);
    this.#unawaited = unawaited;
  }
}

/** A promise that `begin` settles later, or never. */
export function settledBy<T>(begin: (settle: Settle, track: Track) => void): Promise<T> {
  let resolve: (value: never) => void = () => undefined;
  let rejectPromise: (error: unknown) => void = () => undefined;
  const promise = new TrackedPromise<T>((onValue, onError) => {
    resolve = onValue;
    rejectPromise = onError;
  });
  const reject = (error: unknown) => {
    promise.markHandled();
    rejectPromise(error);
  };
  try {
    begin({ resolve: resolve as Settle['resolve'], reject }, (stepId, unawaited) => promise.track(stepId, unawaited));
  } catch (error) {
    reject(error);
  }
  return promise;
}
