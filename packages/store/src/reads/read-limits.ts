/**
 * Most bytes of payloads and failures that a statement reads, unless a single row is larger. Rows that do not fit are read by the
 * next statement, after the callers of this one have their answers.
 */
export const MAX_READ_BYTES = 8 * 1024 * 1024;

/** Stands for a row that did not fit {@link MAX_READ_BYTES}: read it again. */
export const DEFERRED = 'deferred';
export type Deferred = typeof DEFERRED;
