import type { RunHolder } from '../../commands.js';
import type { QueueRef } from '../../model.js';

/** What an arrival has done to its run. */
export type ArrivalEffect =
  | { readonly kind: 'none' }
  /** It was suspended and is claimable now. */
  | { readonly kind: 'woken'; readonly queue: QueueRef; readonly workflowType: string }
  /** It was suspended, and is leased to the worker that keeps it in memory. */
  | { readonly kind: 'leased' }
  /** Its worker has something to take. */
  | { readonly kind: 'arrived'; readonly holder: RunHolder };

/** A run in the answer of a statement that has brought arrivals. */
export interface ArrivalRow {
  readonly woken: boolean;
  readonly task_queue: string;
  readonly workflow_type: string;
  readonly leased_by: string | null;
  readonly lease_token: number;
}

/** @param isLeased the statement that has woken the run has also leased it */
export function arrivalEffect(namespace: string, row: ArrivalRow, isLeased = false): ArrivalEffect {
  if (isLeased) return { kind: 'leased' };
  if (row.woken) {
    return { kind: 'woken', queue: { namespace, taskQueue: row.task_queue }, workflowType: row.workflow_type };
  }
  if (row.leased_by === null) return { kind: 'none' };
  return { kind: 'arrived', holder: { workerId: row.leased_by, leaseToken: row.lease_token } };
}

/** A run for which something has arrived. */
export interface ReachedRun {
  readonly namespace: string;
  readonly runId: string;
  readonly effect: ArrivalEffect;
}
