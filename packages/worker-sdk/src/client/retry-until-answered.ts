import { setTimeout as delay } from 'node:timers/promises';
import { RpcError } from '../rpc/rpc-error.js';
import type { CallOptions } from '../rpc/service-client.js';
import { type OutageReport, REPORT_AFTER_MS } from './outage-report.js';

const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 2_000;
/** Limit for one call, and for all its repeats together, in ms. */
export const DEFAULT_GIVE_UP_MS = 30_000;

export interface RetryUntilAnsweredOptions {
  /** Repeats end after this many ms without an answer; default 30,000. */
  readonly giveUpAfterMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Makes a call that may be repeated, again and again while no server answers it.
 *
 * @param call receives options that keep it within `giveUpAfterMs`
 * @throws {RpcError} any other refusal at once; the last transient error after `giveUpAfterMs`
 * @throws the signal's reason when it is aborted
 */
export async function retryUntilAnswered<T>(
  outage: OutageReport,
  call: (options: CallOptions) => Promise<T>,
  { giveUpAfterMs = DEFAULT_GIVE_UP_MS, signal }: RetryUntilAnsweredOptions = {},
): Promise<T> {
  const beganMs = performance.now();
  for (let backoffMs = BACKOFF_MIN_MS; ; backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)) {
    try {
      signal?.throwIfAborted();
      const leftMs = beganMs + giveUpAfterMs - performance.now();
      const timeoutMs = Math.max(1, Math.min(leftMs, DEFAULT_GIVE_UP_MS));
      const answer = await call(signal === undefined ? { timeoutMs } : { timeoutMs, signal });
      outage.onAnswer();
      return answer;
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof RpcError) || !error.isTransient) throw error;
      const waitMs = Math.max(error.retryAfterMs ?? 0, backoffMs * (0.5 + Math.random() / 2));
      const afterMs = performance.now() - beganMs + waitMs;
      if (afterMs > giveUpAfterMs) throw error;
      if (afterMs >= REPORT_AFTER_MS && error.status === 'UNAVAILABLE') outage.report(error, giveUpAfterMs);
      // An abort ends the wait; the loop then throws its reason.
      await delay(waitMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
    }
  }
}
