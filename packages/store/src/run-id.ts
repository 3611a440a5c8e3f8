import { hash } from 'node:crypto';
import { v7, validate, version } from 'uuid';

const MAX_CLOCK_SKEW_MS = 24 * 3_600_000;

export interface StartIdentity {
  /** UUIDv7 for the new run. */
  readonly runId: string;
  /** What must be remembered of the request id; null when the run id already stands for it. */
  readonly requestId: string | null;
}

/**
 * Chooses the id of a run to start.
 *
 * A request id that is a UUIDv7 of about now becomes part of the run id: same time, and the other bits a hash of the
 * namespace and the request id. A repeated call then asks for the same primary key, and the key alone refuses a second
 * run - no further index, no race. Any other request id is stored with the run and looked up.
 *
 * @param namespace where the run is started
 * @param requestId as the caller sent it; empty when there is none
 * @param nowMs time by this process's clock; only used to tell a plausible id from an implausible one
 */
export function startIdentity(namespace: string, requestId: string, nowMs: number = Date.now()): StartIdentity {
  if (requestId === '') return { runId: v7(), requestId: null };
  if (!validate(requestId) || version(requestId) !== 7) return { runId: v7(), requestId };
  const timeHex = requestId.slice(0, 8) + requestId.slice(9, 13);
  if (Math.abs(Number.parseInt(timeHex, 16) - nowMs) > MAX_CLOCK_SKEW_MS) return { runId: v7(), requestId };
  const time = timeHex.toLowerCase();
  const random = hash('sha256', `${namespace}\n${requestId.toLowerCase()}`);
  const variant = ((Number.parseInt(random.charAt(4), 16) & 0x3) | 0x8).toString(16);
  const runId = `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(1, 4)}-${variant}${random.slice(5, 8)}-${random.slice(8, 20)}`;
  return { runId, requestId: null };
}
