import { hash } from 'node:crypto';
import { v7, validate, version } from 'uuid';

/** An older request id is not hashed into the run id, because the run would sort among older runs. */
const FRESH_MS = 23 * 3_600_000;
/**
 * Around that age a request id is both hashed and stored, so that servers whose clocks differ by less than this still refuse a
 * second run.
 */
const OVERLAP_MS = 2 * 3_600_000;

export interface StartIdentity {
  /** UUIDv7 for the new run. */
  readonly runId: string;
  /** The request id to store; null when it is hashed into the run id. */
  readonly requestId: string | null;
  /** The run id that an earlier start with this request id got while the request id was fresh; null when there is no other. */
  readonly freshRunId: string | null;
}

/**
 * Chooses the id of a run to start, so that equal request ids are one start at any time.
 *
 * A fresh request id that is a UUIDv7 becomes part of the run id: same time, and the other bits a hash of the namespace and
 * the request id. A repeated call then has the same primary key, which refuses a second run: no further index, no
 * race. Any other request id is stored with the run, under a unique index; a UUIDv7 that is no longer fresh is also looked up as the
 * run id that it may have been hashed into. A request id only grows older, so there is no other case.
 *
 * @param namespace where the run is started
 * @param requestId as the caller sent it; empty when there is none
 * @param nowMs time by this process's clock; only used for the age of a request id
 */
export function startIdentity(namespace: string, requestId: string, nowMs: number = Date.now()): StartIdentity {
  if (requestId === '') return { runId: v7(), requestId: null, freshRunId: null };
  if (!validate(requestId) || version(requestId) !== 7) return { runId: v7(), requestId, freshRunId: null };
  const canonical = requestId.toLowerCase();
  const time = canonical.slice(0, 8) + canonical.slice(9, 13);
  const hashed = hashedRunId(namespace, canonical, time);
  const ageMs = nowMs - Number.parseInt(time, 16);
  if (ageMs <= FRESH_MS) return { runId: hashed, requestId: null, freshRunId: null };
  if (ageMs <= FRESH_MS + OVERLAP_MS) return { runId: hashed, requestId: canonical, freshRunId: null };
  return { runId: v7(), requestId: canonical, freshRunId: hashed };
}

function hashedRunId(namespace: string, requestId: string, time: string): string {
  const random = hash('sha256', `${namespace}\n${requestId}`);
  const variant = ((Number.parseInt(random.charAt(4), 16) & 0x3) | 0x8).toString(16);
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(1, 4)}-${variant}${random.slice(5, 8)}-${random.slice(8, 20)}`;
}

/**
 * The id of a fork: a UUIDv7 of now whose last 64 bits are those of its origin. The SDK draws the random numbers of a run from these bits, so a fork
 * that replays the steps of its origin draws the same. Two forks of a run may get the same id in one millisecond: it is refused as any id that exists.
 */
export function forkIdOf(originRunId: string): string {
  return v7().slice(0, 18) + originRunId.toLowerCase().slice(18);
}
