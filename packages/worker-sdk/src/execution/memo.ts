import { type LeasedRun, type MemoEntry, StepStatus } from '@perdure/proto';
import type { LeasedCalls } from './leased-calls.js';

/** What is recorded of a run. */
export interface Memo {
  readonly entries: ReadonlyMap<string, MemoEntry>;
  /** Ids of the steps with a final result, in the order in which the results reached the code. */
  readonly delivered: readonly string[];
}

/** Loads all pages; at once when the first one, which came with the claim, is all. */
export function loadMemo(leased: LeasedRun, calls: LeasedCalls): Memo | Promise<Memo> {
  const memo = { entries: new Map<string, MemoEntry>(), delivered: [] };
  add(memo, leased.memo);
  return leased.nextMemoToken === '' ? memo : loadRest(memo, leased.nextMemoToken, calls);
}

interface GrowingMemo {
  readonly entries: Map<string, MemoEntry>;
  readonly delivered: string[];
}

async function loadRest(memo: GrowingMemo, firstToken: string, calls: LeasedCalls): Promise<Memo> {
  for (let pageToken = firstToken; pageToken !== ''; ) {
    const page = await calls.call('getMemo', { pageToken });
    add(memo, page.memo);
    pageToken = page.nextMemoToken;
  }
  return memo;
}

function add({ entries, delivered }: GrowingMemo, page: readonly MemoEntry[]): void {
  for (const entry of page) {
    entries.set(entry.stepId, entry);
    if (isFinal(entry)) delivered.push(entry.stepId);
  }
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
