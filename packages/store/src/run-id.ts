import { hash } from 'node:crypto';
import { v7, validate, version } from 'uuid';

/** An older request id is not hashed into the run id, which would sort among the runs of its time. */
const FRESH_MS = 23 * 3_600_000;
/**
 * Around that age a request id is both hashed and stored, so that servers whose clocks differ by less than this still refuse
 * each other's runs.
 */
const OVERLAP_MS = 2 * 3_600_000;

export interface StartIdentity {
  /** UUIDv7 for the new run. */
  readonly runId: string;
  /** What must be remembered of the request id; null when the run id already stands for it. */
  readonly requestId: string | null;
  /** The run id that a start with this request id got while the request id was fresh; null when it is this one or none. */
  readonly freshRunId: string | null;
}

/**
 * Chooses the id of a run to start, so that equal request ids are one start, whenever they come.
 *
 * A fresh request id that is a UUIDv7 becomes part of the run id: same time, and the other bits a hash of the namespace and
 * the request id. A repeated call then asks for the same primary key, and the key alone refuses a second run - no further
 * index, no race. Any other request id is stored with the run, under a unique index; a UUIDv7 that is fresh no more is looked
 * up as what it was hashed into as well. A request id only ever grows older, so these are all the ways it can have gone.
 *
 * @param namespace where the run is started
 * @param requestId as the caller sent it; empty when there is none
 * @param nowMs time by this process's clock; only used to tell how old a request id is
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
