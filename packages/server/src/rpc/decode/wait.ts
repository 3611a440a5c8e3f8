import type { PollActivityRequest } from '@perdure/proto';
import { DEFAULT_WAIT_MS, MAX_WAIT_MS } from '../../limits.js';
import type { Checker } from './checker.js';

/** How long a call waits before it is answered, in ms. */
export function decodeWait(check: Checker, wait: PollActivityRequest['wait']): number {
  return check.duration('wait', wait, DEFAULT_WAIT_MS, { maxMs: MAX_WAIT_MS });
}
