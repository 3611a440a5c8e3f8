import type { Logger } from 'pino';
import type { Duration } from './duration.js';
import type { RetryPolicy } from './retry.js';

/** What a run is. */
export interface RunInfo {
  readonly runId: string;
  readonly workflowId: string;
  readonly workflowType: string;
  readonly namespace: string;
  readonly taskQueue: string;
  /** Build that the run was started for; empty when not given. */
  readonly build: string;
  /** From 1; rises with every run-level retry and every lost worker. */
  readonly attempt: number;
  /** When the start was committed. */
  readonly createdAt: Date;
  /** When a worker first claimed the run. */
  readonly startedAt: Date;
}

/** How a step is executed. */
export interface StepOptions {
  /** Default: 3 tries, exponential backoff from 1 s, at most 1 minute, jitter 0.1. */
  readonly retry?: RetryPolicy;
  /** Each try fails with StepTimeoutError after this long; default: never. Above 0, at most 10 years. */
  readonly timeout?: Duration;
  /** A try fails with HeartbeatTimeoutError when its body calls `heartbeat` less often than this; default: never. */
  readonly heartbeatTimeout?: Duration;
  /**
   * `'durable'`: together with `retry: { maxAttempts: 1 }` the body is executed at most once. When its worker is lost, the
   * step fails with WorkerLostError instead of being executed again. Default `'repeatable'`: at least once.
   */
  readonly begin?: 'repeatable' | 'durable';
}

/** What the body of a step gets. */
export interface StepContext {
  readonly stepId: string;
  /** Which try of the retry policy this is, from 1. */
  readonly countedAttempt: number;
  /** Which attempt this is, from 1; lost workers count too. */
  readonly attemptNumber: number;
  /** The same for every attempt of this step of this run, and for no other: hand it to what you call. At most 128 bytes. */
  readonly idempotencyKey: string;
  /** Aborted when the body's work is not wanted any more: timeout, cancel, lost lease. */
  readonly signal: AbortSignal;
  /** Says that the body is alive, and where it is. The latest detail is kept for the next attempt. Costs no call. */
  heartbeat(detail?: unknown): void;
  /** What the last attempt that said anything said last; undefined when none did. */
  lastHeartbeat<T = unknown>(): T | undefined;
}

/**
 * What a workflow's code works with. Code between steps must be deterministic: given the same results it asks for the same
 * things in the same order. Time, randomness and everything from outside come from here.
 */
export interface WorkflowContext {
  readonly run: RunInfo;
  /**
   * Executes `body` and records its result, so that it is not executed again: after a crash the recorded result is returned.
   * The body is executed at least once; give `idempotencyKey` to what must not happen twice.
   *
   * @param name 1 to 200 bytes; the n-th use of a name in the run gets the id `name#n`
   * @returns what the body returned, as the codec reads it
   * @throws what the body threw last, when no try is left
   */
  step<T>(name: string, body: (step: StepContext) => T | PromiseLike<T>, options?: StepOptions): Promise<Awaited<T>>;
  /** Waits, 0 to 10 years, without occupying a worker. Never ends early by the database's clock. */
  sleep(duration: Duration): Promise<void>;
  sleep(name: string, duration: Duration): Promise<void>;
  /** Waits until a time, at most 10 years ahead; the past means not at all. */
  sleepUntil(time: Date): Promise<void>;
  sleepUntil(name: string, time: Date): Promise<void>;
  /** Executes clean-up: calls on `ctx` inside `work` go on although the run was cancelled. */
  uncancellable<T>(work: () => Promise<T>): Promise<T>;
  /** The database's time of the last result; the same in every replay. */
  now(): Date;
  /** 0 ≤ x < 1; the same sequence in every replay. Not for secrets. */
  random(): number;
  /** A version 4 UUID; the same sequence in every replay. Not for secrets. */
  uuid(): string;
  /** Aborted on cancel and when the lease is lost; inside a body: the step's signal. */
  readonly signal: AbortSignal;
  /** Only inside the body of a step: see {@link StepContext.idempotencyKey}. */
  readonly idempotencyKey: string;
  /** Only inside the body of a step: see {@link StepContext.heartbeat}. */
  heartbeat(detail?: unknown): void;
  /** Only inside the body of a step: see {@link StepContext.lastHeartbeat}. */
  lastHeartbeat<T = unknown>(): T | undefined;
  /** Writes nothing while the code replays what has happened already. */
  readonly log: Pick<Logger, 'trace' | 'debug' | 'info' | 'warn' | 'error'>;
}
