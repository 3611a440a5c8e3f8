/** Requests of people who act on runs. */
import type { RunAction, RunRef } from '@perdure/store';
import type { Checker } from './checker.js';
import { decodeRunRef } from './workflow-requests.js';

interface ActionFields {
  readonly namespace: string;
  readonly runId: string;
  readonly workflowId: string;
  readonly reason: string;
  readonly actor: string;
  readonly requestId: string;
}

export interface ActOnRun {
  readonly ref: RunRef;
  readonly action: Omit<RunAction, 'namespace' | 'runId'>;
}

/** Who does it, and why. */
export function decodeRunAction(check: Checker, request: ActionFields): ActOnRun {
  return {
    ref: decodeRunRef(check, request),
    action: {
      actor: check.optionalId('actor', request.actor),
      reason: check.text('reason', request.reason),
      requestId: check.optionalId('request_id', request.requestId) || null,
    },
  };
}
