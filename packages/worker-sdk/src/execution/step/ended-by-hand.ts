import { RpcError } from '../../rpc/rpc-error.js';

/** A write of the worker is refused because a person has ended the step: its outcome arrives. */
export function isEndedByHand(error: unknown): boolean {
  return error instanceof RpcError && error.reason === 'STEP_ENDED';
}
