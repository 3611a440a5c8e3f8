import type { ClaimedRun } from '@perdure/store';

/** Size of a memo entry, or of a run, without its payloads, in bytes. */
const OVERHEAD_BYTES = 200;

/** Divides runs into those that fit one answer, at least one, and the rest; keeps the order. */
export function fitAnswer(
  claims: readonly ClaimedRun[],
  maxBytes: number,
): { readonly fits: readonly ClaimedRun[]; readonly rest: readonly ClaimedRun[] } {
  let bytes = 0;
  const end = claims.findIndex((claim, index) => {
    bytes += claimBytes(claim);
    return index > 0 && bytes > maxBytes;
  });
  return end < 0 ? { fits: claims, rest: [] } : { fits: claims.slice(0, end), rest: claims.slice(end) };
}

/** Approximate size of a run in an answer. */
export function claimBytes({ run, memo, arrivals }: ClaimedRun): number {
  let bytes = OVERHEAD_BYTES + (run.input?.data.byteLength ?? 0);
  for (const { output, failure, heartbeat } of [...memo, ...arrivals]) {
    bytes += OVERHEAD_BYTES + (output?.data.byteLength ?? 0) + (heartbeat?.data.byteLength ?? 0);
    if (failure !== null) bytes += JSON.stringify(failure).length;
  }
  return bytes;
}
