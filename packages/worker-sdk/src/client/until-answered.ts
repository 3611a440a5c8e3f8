import { setTimeout as delay } from 'node:timers/promises';
import { RpcError } from '../rpc/rpc-error.js';
import type { CallOptions } from '../rpc/service-client.js';
import { type OutageNotice, TOLD_AFTER_MS } from './outage-notice.js';

const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 2_000;
/** For one call, and for all its repeats, in ms. */
export const DEFAULT_PATIENCE_MS = 30_000;

export interface UntilAnsweredOptions {
  /** Give up after so long without an answer; default 30,000. */
  readonly patienceMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Repeats a call that may be repeated while no server can answer it.
 *
 * @param call gets the options that keep it within the patience
 * @throws {RpcError} any other refusal at once; the last one when patience ends
 * @throws the signal's reason when it is aborted
 */
export async function untilAnswered<T>(
  outage: OutageNotice,
  call: (options: CallOptions) => Promise<T>,
  { patienceMs = DEFAULT_PATIENCE_MS, signal }: UntilAnsweredOptions = {},
): Promise<T> {
  const beganMs = performance.now();
  for (let backoffMs = BACKOFF_MIN_MS; ; backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)) {
    try {
      signal?.throwIfAborted();
      const leftMs = beganMs + patienceMs - performance.now();
      const timeoutMs = Math.max(1, Math.min(leftMs, DEFAULT_PATIENCE_MS));
      const answer = await call(signal === undefined ? { timeoutMs } : { timeoutMs, signal });
      outage.onAnswer();
      return answer;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof RpcError) || !error.isTransient) throw error;
      const waitMs = Math.max(error.retryAfterMs ?? 0, backoffMs * (0.5 + Math.random() / 2));
      const afterMs = performance.now() - beganMs + waitMs;
      if (afterMs > patienceMs) throw error;
      if (afterMs >= TOLD_AFTER_MS && error.status === 'UNAVAILABLE') outage.tell(error, patienceMs);
      // An abort ends the wait; the loop then throws its reason.
      await delay(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
    }
  }
}
