import { setTimeout as delay } from 'node:timers/promises';
import { RpcError } from '../rpc/rpc-error.js';

const BACKOFF_MIN_MS = 50;
const BACKOFF_MAX_MS = 2_000;
const DEFAULT_PATIENCE_MS = 30_000;

/**
 * Repeats a call that may be repeated while no server can answer it.
 *
 * @param patienceMs give up after so long without an answer
 * @throws {RpcError} any other refusal at once; the last one when patience ends
 */
export async function untilAnswered<T>(call: () => Promise<T>, patienceMs: number = DEFAULT_PATIENCE_MS): Promise<T> {
  const untilMs = performance.now() + patienceMs;
  for (let backoffMs = BACKOFF_MIN_MS; ; backoffMs = Math.min(backoffMs * 2, BACKOFF_MAX_MS)) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof RpcError) || !error.isTransient) throw error;
      const waitMs = Math.max(error.retryAfterMs ?? 0, backoffMs * (0.5 + Math.random() / 2));
      if (performance.now() + waitMs > untilMs) throw error;
      await delay(waitMs);
    }
  }
}
