import { createHash } from 'node:crypto';

const MAX_KEY_BYTES = 128;

/** The same for every attempt of a step of a run, and for no other; at most 128 bytes. */
export function idempotencyKey(runId: string, stepId: string): string {
  const key = `${runId}:${stepId}`;
  if (Buffer.byteLength(key) <= MAX_KEY_BYTES) return key;
  return `${runId}:${createHash('sha256').update(stepId).digest('base64url')}`;
}
