import type { MemoPageLimits } from '@perdure/store';

/** A claim carries so much of a run's memo; the rest comes in pages. Together with a largest input it fits 16 MiB. */
export const MEMO_PAGE_LIMITS: MemoPageLimits = { memoPageBytes: 1024 * 1024, memoPageEntries: 1_000 };

/** Longest wait of a long poll, in ms. */
export const MAX_WAIT_MS = 60_000;
/** Wait of a long poll that names none, in ms. */
export const DEFAULT_WAIT_MS = 20_000;

export const DEFAULT_LEASE_MS = 30_000;
export const MIN_LEASE_MS = 1_000;
export const MAX_LEASE_MS = 600_000;
/** Heartbeats are due three times per lease, and at least this often, in ms: they also carry cancels and drains. */
export const MAX_HEARTBEAT_INTERVAL_MS = 10_000;

/** Runs that one poll may ask for. */
export const MAX_POLL_RUNS = 1_000;
/** A poll's answer carries so much of inputs and memos, or a single run, in bytes. */
export const MAX_POLL_BYTES = 4 * 1024 * 1024;
