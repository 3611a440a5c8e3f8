import type { RpcError } from './rpc-error.js';

/** What to do about a call that failed in a session; `'retry-unary'` and `'stop-sessions'` both end the use of sessions. */
export type AfterFailure = 'retry-unary' | 'stop-sessions' | 'fail';

export interface SessionFailure {
  readonly error: Pick<RpcError, 'status' | 'reason'>;
  /** The server has answered in this session before. */
  readonly heard: boolean;
  /** The stream ended with a status that means that streams are not served, not that the server is unreachable. */
  readonly refused: boolean;
  /** The caller has aborted the call. */
  readonly aborted: boolean;
}

/** Whether streams get through to a server; a pure function of what is known. */
export function afterFailure({ error, heard, refused, aborted }: SessionFailure): AfterFailure {
  if (aborted || heard || error.reason !== '') return 'fail';
  // No call has been carried out by a stream that was refused, and each may be repeated anyway.
  if (refused) return 'retry-unary';
  // A proxy that drops streams looks like this.
  return error.status === 'DEADLINE_EXCEEDED' ? 'stop-sessions' : 'fail';
}
