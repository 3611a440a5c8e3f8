import type { RpcError } from './rpc-error.js';

/** After this many ambiguous failures in a row the next server is used. */
const AMBIGUOUS_FAILURES = 2;

export interface ServerFailure {
  readonly error: Pick<RpcError, 'status' | 'reason'>;
  /** Nothing at all came from the server while the call waited. */
  readonly isSilent: boolean;
  /** Calls of this server that failed in a row, this one included. */
  readonly failuresInARow: number;
}

/**
 * Whether calls should go to another server from now on; a pure function of what is known. A server that is gone, is going
 * down or is silent is left immediately; one that cannot reach its database, or is late, gets one more call.
 */
export function leavesServer({ error, isSilent, failuresInARow }: ServerFailure): boolean {
  const { status, reason } = error;
  if (reason === 'SHUTTING_DOWN') return true;
  if (reason === '' && status === 'UNAVAILABLE') return true;
  if (reason === '' && status === 'DEADLINE_EXCEEDED') return isSilent || failuresInARow >= AMBIGUOUS_FAILURES;
  return reason === 'DATABASE_UNAVAILABLE' && failuresInARow >= AMBIGUOUS_FAILURES;
}
