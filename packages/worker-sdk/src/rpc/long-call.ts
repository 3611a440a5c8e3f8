import type { CallOptions } from './service-client.js';

/** Time for the round trip, in ms. */
const TRIP_MS = 10_000;

/** Options of a call that the server answers within `waitMs`. */
export function longCall(waitMs: number, signal: AbortSignal | undefined): CallOptions {
  return { timeoutMs: waitMs + TRIP_MS, ...(signal === undefined ? {} : { signal }) };
}
