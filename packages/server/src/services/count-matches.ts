import { monotonicClock } from '@perdure/clock';
import { findMatchingRuns, MAX_SCANNED, type Reader, type RunFilter } from '@perdure/store';

/** Counting stops after this time, in ms. */
const MAX_COUNT_MS = 3_000;
const SAMPLE = 10;

export interface Matches {
  readonly matched: number;
  /** False: counting has stopped before the end. */
  readonly isExact: boolean;
  /** The oldest 10. */
  readonly first: readonly string[];
}

/** Counts the runs that match a filter, in short statements. */
export async function countMatches(from: Reader, filter: RunFilter): Promise<Matches> {
  const untilMs = monotonicClock.nowMs() + MAX_COUNT_MS;
  const first: string[] = [];
  let matched = 0;
  for (let after: string | null = null; ; ) {
    const { runIds, cursor, isEnd } = await findMatchingRuns(from, filter, { after, limit: MAX_SCANNED }, null);
    matched += runIds.length;
    if (first.length < SAMPLE) first.push(...runIds.slice(0, SAMPLE - first.length));
    if (isEnd || monotonicClock.nowMs() >= untilMs) return { matched, isExact: isEnd, first };
    after = cursor;
  }
}
