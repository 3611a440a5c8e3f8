import { type LeasedRun, type MemoEntry, StepStatus } from '@perdure/proto';
import type { LeasedCalls } from '../lease/leased-calls.js';
import { type EventPlace, isBefore } from './failure-log.js';

export type RecordedStep = MemoEntry;

/** Stands in {@link Memo.delivered} for the place at which the code learned of the cancel request. No step has this id. */
export const CANCEL_EVENT = '';

/** What is recorded of a run. */
export interface Memo {
  readonly entries: ReadonlyMap<string, RecordedStep>;
  /** The same by position in program order. */
  readonly places: ReadonlyMap<number, RecordedStep>;
  /** Steps that a run-level retry has taken back. */
  readonly cut: ReadonlyMap<string, RecordedStep>;
  /** Ids of the steps with a final result, in the order in which the results reached the code. */
  readonly delivered: readonly string[];
}

export const EMPTY_MEMO: Memo = { entries: new Map(), places: new Map(), cut: new Map(), delivered: [] };

/** Loads all pages. */
export async function loadMemo(leased: LeasedRun, calls: LeasedCalls): Promise<Memo> {
  const { memo: firstPage, nextMemoToken, cancelObserved } = leased;
  if (firstPage.length === 0 && nextMemoToken === '' && cancelObserved === undefined) return EMPTY_MEMO;
  const memo: GrowingMemo = { entries: new Map(), places: new Map(), cut: new Map(), delivered: [], cancel: undefined };
  memo.cancel = cancelObserved;
  add(memo, firstPage);
  for (let pageToken = nextMemoToken; pageToken !== ''; ) {
    const page = await calls.call('getMemo', { pageToken });
    add(memo, page.memo);
    pageToken = page.nextMemoToken;
  }
  if (memo.cancel !== undefined) memo.delivered.push(CANCEL_EVENT);
  return memo;
}

/** What is left of a memo when all of it has been delivered. */
export function afterReplay(memo: Memo): Memo {
  return memo.cut.size === 0 ? EMPTY_MEMO : { ...EMPTY_MEMO, cut: memo.cut };
}

interface GrowingMemo {
  readonly entries: Map<string, RecordedStep>;
  readonly places: Map<number, RecordedStep>;
  readonly cut: Map<string, RecordedStep>;
  readonly delivered: string[];
  /** Not delivered yet. */
  cancel: EventPlace | undefined;
}

function add(memo: GrowingMemo, page: readonly MemoEntry[]): void {
  for (const entry of page) {
    if (entry.isCut) {
      memo.cut.set(entry.stepId, entry);
      continue;
    }
    memo.entries.set(entry.stepId, entry);
    memo.places.set(entry.seq, entry);
    if (!isDelivered(entry)) continue;
    if (memo.cancel !== undefined && isBefore(memo.cancel, entry)) {
      memo.delivered.push(CANCEL_EVENT);
      memo.cancel = undefined;
    }
    memo.delivered.push(entry.stepId);
  }
}

/** The code has been told the final outcome: it has its place in the order of results. */
export function isDelivered(entry: RecordedStep): boolean {
  return isFinal(entry) && entry.eventSeq > 0;
}

/** No further attempt follows. */
export function isFinal(entry: RecordedStep): boolean {
  switch (entry.status) {
    case StepStatus.COMPLETED:
    case StepStatus.CANCELLED:
    case StepStatus.SKIPPED:
    case StepStatus.TIMED_OUT:
      return true;
    case StepStatus.FAILED:
      return entry.nextRetryAt === undefined;
    default:
      return false;
  }
}
