import type { StepContext, StepOptions } from './step.js';

/** How a compensation is executed; each option is optional. */
export interface CompensationOptions extends Pick<StepOptions, 'timeout' | 'heartbeatTimeout'> {
  /** Default: 10 counted attempts, exponential backoff from 1 s to at most 1 minute, jitter 0.1. */
  readonly retry?: StepOptions['retry'];
  /** It may run at the same time as the compensations registered just before and after it that are parallel too. Default false. */
  readonly parallel?: boolean;
}

/** How the compensations of a saga are executed; each option is optional. */
export interface SagaOptions {
  /** The default of {@link CompensationOptions.parallel} in this saga. */
  readonly parallel?: boolean;
}

/** What undoes the steps of a run, or of a part of it. */
export interface Saga {
  /**
   * Registers what undoes a step: right after the step, or before it when a try that fails may have had its effect nevertheless. Once the run
   * has failed for good or is cancelled, the compensations that are registered run as steps, the latest first, each with retries of its own.
   * A cancel does not stop them. A run that is terminated, or that a timeout ends, is not compensated.
   *
   * @param name the step is called `compensate:` and this; 1 to 189 bytes without control characters
   * @param undo like the body of a step: executed at least once, with the same `idempotencyKey` each time
   * @throws {TypeError} naming what is wrong
   */
  onCompensate(name: string, undo: (step: StepContext) => unknown, options?: CompensationOptions): void;
  /**
   * Compensates now what is registered here, for example in a `catch`. Afterwards nothing is registered, except what could not be
   * compensated: that is tried again when the run fails.
   *
   * @throws {CompensationError} when a compensation has used up its tries; the others have run nevertheless
   */
  compensate(): Promise<void>;
  /**
   * Compensates only what `work` registers with its argument, when `work` throws; then rethrows. Before that it waits for the steps and
   * children that `work` has begun; further ones are refused. When `work` returns, what it has registered belongs to this saga, and is
   * compensated when that fails.
   *
   * @returns what `work` returns
   * @throws {CompensationError} with the error of `work` as `cause`, when a compensation has used up its tries
   */
  saga<T>(work: (saga: Saga) => PromiseLike<T> | T, options?: SagaOptions): Promise<T>;
}
