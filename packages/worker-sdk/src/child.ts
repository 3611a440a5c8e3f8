/** Child runs, as the author's code sees them. */
import type { Duration } from './duration.js';
import type { Signal } from './signal.js';

/** How a child is started; each option is optional. */
export interface ChildOptions {
  /** Name of the step that starts the child and waits for its end; 1 to 200 bytes; default: the name of the workflow. */
  readonly name?: string;
  /** The task queue whose workers execute the child; 1 to 255 bytes; default: that of this run. */
  readonly taskQueue?: string;
  /** 1 to 255 bytes, unique among open runs; default: the workflow id of this run, `/` and the id of the step. */
  readonly workflowId?: string;
  /** Whether an id may be used again once its run has ended; default `'allow'`. While a run with the id is open, no child is started. */
  readonly reusePolicy?: 'allow' | 'allow-if-failed' | 'reject';
  /**
   * What happens to the child when this run ends, or is cancelled while it waits for it: `'cancel'`, the default, requests its cancel,
   * `'terminate'` ends it at once, `'abandon'` leaves it alone.
   */
  readonly parentClose?: 'cancel' | 'terminate' | 'abandon';
  /** −100 to 100; higher is claimed first; default: that of this run. */
  readonly priority?: number;
  /** Build that the child is meant for; at most 255 bytes; default: that of this run. */
  readonly build?: string;
  /** Wait before the first claim, 0 to 10 years; default 0. */
  readonly startDelay?: Duration;
  /** As for a start: fails the child with RUN_TIMEOUT; at most 10 years; default: no limit. */
  readonly runTimeout?: Duration;
  /** As for a start: fails the child with EXECUTION_TIMEOUT; at most 10 years; default: no limit. */
  readonly executionTimeout?: Duration;
  /** As for a start: fails the child with START_TIMEOUT when no worker claims it; at most 10 years; default: no limit. */
  readonly startTimeout?: Duration;
  /** As for a start: fails the child, or a run that continues it, with CHAIN_TIMEOUT; at most 10 years; default: no limit. */
  readonly chainTimeout?: Duration;
  /** Leases that it may lose in a row, without completing a step, before it FAILs; 1 to 1,000; default 10. */
  readonly maxLostLeases?: number;
}

/** A child run. Made by `ctx.startChild`. */
export interface ChildRun<Output = unknown> {
  /** A UUIDv7, the same in every replay. */
  readonly runId: string;
  readonly workflowId: string;
  /**
   * Waits for the end of the child without occupying a slot.
   *
   * @returns what the child returned
   * @throws {ChildFailedError} with the error of the child as `cause`; its subclasses ChildCancelledError, ChildTerminatedError and
   * ChildNotStartedError (its workflow id is taken) say what else has happened
   * @throws {CancelledError} when this run is being cancelled
   */
  result(): Promise<Output>;
  /** Sends a signal to the child, exactly once; recorded as a step named like the signal. */
  signal<Sent>(signal: Signal<Sent, unknown> | string, payload?: Sent): Promise<void>;
  /** Requests that the child end, as a step; nothing happens when it has ended. */
  cancel(reason?: string): Promise<void>;
}

/** Options of `ctx.map`. */
export interface MapOptions {
  /** Most calls of the function that are under way at the same time, at least 1; default: no limit. */
  readonly concurrency?: number;
}
