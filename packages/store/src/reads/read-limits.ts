/**
 * A statement reads so many bytes of payloads and failures at most, or a single row that is larger by itself. What does not
 * fit is read by the next one, after the callers of this one have their answers.
 */
export const MAX_READ_BYTES = 8 * 1024 * 1024;

/** Stands for what did not fit into {@link MAX_READ_BYTES}: ask for it again. */
export const DEFERRED = 'deferred';
export type Deferred = typeof DEFERRED;
