import { type Duration, durationMs } from '../duration.js';
import { longCall } from '../rpc/long-call.js';
import type { CallOptions } from '../rpc/service-client.js';

/** How long to wait for a result. */
export interface ResultOptions {
  /** Rejects with AwaitTimeoutError after this long, 0 to 10 years; the run continues. Default: no limit. */
  readonly timeout?: Duration | undefined;
  /** Ends the wait with the signal's reason when aborted; the run continues. */
  readonly signal?: AbortSignal | undefined;
}

/** One call waits this long for the end of the run, in ms; then the next call waits. */
const WAIT_MS = 20_000;
/** Time for an answer at the end of its wait to arrive, in ms; a later one is not waited for. */
const LATE_MS = 500;

/** Until when a caller waits for a result, counted from its construction. */
export class ResultDeadline {
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly #untilMs: number;

  /** @throws {TypeError} when the timeout is not a duration */
  constructor({ timeout, signal }: ResultOptions) {
    this.timeoutMs = timeout === undefined ? Number.POSITIVE_INFINITY : durationMs(timeout, 'timeout');
    this.signal = signal;
    this.#untilMs = performance.now() + this.timeoutMs;
  }

  get remainingMs(): number {
    return this.#untilMs - performance.now();
  }

  /** How long the server should wait in the next call, in ms, and the options of that call. */
  nextCall(maxWaitMs: number = WAIT_MS): { readonly waitMs: number; readonly options: CallOptions } {
    const waitMs = Math.max(0, Math.min(maxWaitMs, Math.ceil(this.remainingMs)));
    const { timeoutMs = 0, ...options } = longCall(waitMs, this.signal);
    return { waitMs, options: { timeoutMs: Math.min(timeoutMs, Math.max(0, this.remainingMs) + LATE_MS), ...options } };
  }
}
