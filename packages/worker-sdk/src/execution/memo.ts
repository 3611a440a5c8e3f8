import { type LeasedRun, type MemoEntry, StepStatus } from '@perdure/proto';
import type { LeasedCalls } from './leased-calls.js';

/** What is recorded of a run. */
export interface Memo {
  readonly entries: ReadonlyMap<string, MemoEntry>;
  /** Ids of the steps with a final result, in the order in which the results reached the code. */
  readonly delivered: readonly string[];
}

/** Loads all pages. */
export async function loadMemo(leased: LeasedRun, calls: LeasedCalls): Promise<Memo> {
  const entries = new Map<string, MemoEntry>();
  const delivered: string[] = [];
  const add = (page: readonly MemoEntry[]) => {
    for (const entry of page) {
      entries.set(entry.stepId, entry);
      if (isFinal(entry)) delivered.push(entry.stepId);
    }
  };
  add(leased.memo);
  for (let pageToken = leased.nextMemoToken; pageToken !== ''; ) {
    const page = await calls.call('getMemo', { pageToken });
    add(page.memo);
    pageToken = page.nextMemoToken;
  }
  return { entries, delivered };
}

/** No further attempt follows. */
export function isFinal(entry: MemoEntry): boolean {
  switch (entry.status) {
    case StepStatus.COMPLETED:
    case StepStatus.CANCELLED:
    case StepStatus.SKIPPED:
      return true;
    case StepStatus.FAILED:
      return entry.nextRetryAt === undefined;
    default:
      return false;
  }
}
