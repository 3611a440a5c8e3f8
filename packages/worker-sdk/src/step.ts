import type { Duration } from './duration.js';
import type { RetryPolicy } from './retry.js';

/** How a step is executed; each option is optional. */
export interface StepOptions {
  /** Default: 3 counted attempts, exponential backoff from 1 s to at most 1 minute, jitter 0.1. */
  readonly retry?: RetryPolicy;
  /** An attempt fails with StepTimeoutError after this long; above 0, at most 10 years; default: no limit. */
  readonly timeout?: Duration;
  /**
   * An attempt fails with HeartbeatTimeoutError when its body does not call `heartbeat` for this long; above 0, at most 10
   * years; default: no limit.
   */
  readonly heartbeatTimeout?: Duration;
  /**
   * `'durable'`: together with `retry: { maxAttempts: 1 }` the body is executed at most once. When its worker is
   * lost, the step fails with WorkerLostError instead of being executed again. Default `'repeatable'`: at least once.
   */
  readonly begin?: 'repeatable' | 'durable';
  /**
   * `'lazily'`: for bodies without effects that are cheap to repeat, reads for example. The code is given the result at once; it is recorded
   * with what the run records next, and any body that is not lazy waits for that. A worker that is lost before loses the result: the body
   * is executed again, and the code may come to something else, which nobody has seen. The result does not move `ctx.now()`, and its
   * beginning is not recorded. Results above 64 KiB are recorded at once. Default `'at once'`: before the code is given it.
   */
  readonly record?: 'at once' | 'lazily';
}

/** What the body of a step receives. Its methods may be destructured. */
export interface StepContext {
  /** The step's name; from its second use in a run on, `name#n`. */
  readonly stepId: string;
  /** The number of this attempt by the retry policy, from 1: attempts that were lost with their worker are not counted. */
  readonly countedAttempt: number;
  /** The number of this attempt, from 1, lost ones included. */
  readonly attemptNumber: number;
  /** The same for every attempt of this step, and for no other step or run; pass it to the services you call. At most 128 bytes. */
  readonly idempotencyKey: string;
  /** Aborted when the body must stop: on a timeout, a cancel request or a lost lease. Its `reason` is the error. */
  readonly signal: AbortSignal;
  /**
   * Reports that the body is alive, and optionally how far it is. Costs no call of its own.
   *
   * @param detail anything the codec can encode; the latest is kept for the next attempt
   * @throws {PayloadTooLargeError} when the detail is larger than the server accepts, 2 MiB by default
   */
  heartbeat(detail?: unknown): void;
  /** The most recent heartbeat detail of any attempt of this step; undefined when there is none. */
  lastHeartbeat<T = unknown>(): T | undefined;
}
