import type { MemoPageLimits } from '@perdure/store';

/** Size of the memo page returned with a claim. Together with the largest input it fits 16 MiB. */
export const MEMO_PAGE_LIMITS: MemoPageLimits = { memoPageBytes: 1024 * 1024, memoPageEntries: 1_000 };

/** Longest wait of a long poll, in ms. */
export const MAX_WAIT_MS = 60_000;
/** Default wait of a long poll, in ms. */
export const DEFAULT_WAIT_MS = 20_000;

export const DEFAULT_LEASE_MS = 30_000;
export const MIN_LEASE_MS = 1_000;
export const MAX_LEASE_MS = 600_000;
/** Heartbeats are due three times per lease, and at least this often, in ms, because they also carry cancels and drains. */
export const MAX_HEARTBEAT_INTERVAL_MS = 10_000;

/** Most runs that one poll may request. */
export const MAX_POLL_RUNS = 1_000;
/** Most bytes of inputs and memos in the answer of a poll, unless it has a single run. */
export const MAX_POLL_BYTES = 4 * 1024 * 1024;
