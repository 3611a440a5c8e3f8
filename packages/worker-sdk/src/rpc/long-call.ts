import type { CallOptions } from './service-client.js';

/** For the way there and back, in ms. */
const TRIP_MS = 10_000;

/** Options of a call that the server answers after `waitMs` at the latest. */
export function longCall(waitMs: number, signal: AbortSignal | undefined): CallOptions {
  return { timeoutMs: waitMs + TRIP_MS, ...(signal === undefined ? {} : { signal }) };
}
