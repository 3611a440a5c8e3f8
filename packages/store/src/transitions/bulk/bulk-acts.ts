/** What a bulk operation does to the runs of one chunk, by its kind. */
import type {
  CancelRun,
  CancelRunOutcome,
  DismissRunOutcome,
  RetryRunOutcome,
  TerminateRun,
  TerminateRunOutcome,
} from '../../commands.js';
import type { Database } from '../../database/database.js';
import type { Payload } from '../../model.js';
import type { BulkOperation, BulkRefusal } from '../../reads/bulk-row.js';
import { closeChildren } from '../children/close-children.js';
import { tellParents } from '../children/tell-parents.js';
import { cancelRuns } from '../runs/cancel-runs.js';
import { type DeleteRunOutcome, deleteRuns } from '../runs/delete-runs.js';
import { dismissRuns } from '../runs/dismiss-runs.js';
import { type PauseRun, type PauseRunOutcome, pauseRuns } from '../runs/pause-runs.js';
import { type ResumeRunOutcome, resumeRuns } from '../runs/resume-runs.js';
import { retryRuns } from '../runs/retry-runs.js';
import { terminateRuns } from '../runs/terminate-runs.js';
import { type SendSignal, type SendSignalOutcome, sendSignals } from '../signals/send-signals.js';

/** What became of one run: for those who are notified of it. */
export type BulkAct =
  | { readonly kind: 'CANCEL'; readonly command: CancelRun; readonly outcome: CancelRunOutcome }
  | { readonly kind: 'TERMINATE'; readonly command: TerminateRun; readonly outcome: TerminateRunOutcome }
  | { readonly kind: 'PAUSE'; readonly command: PauseRun; readonly outcome: PauseRunOutcome }
  | { readonly kind: 'RESUME'; readonly runId: string; readonly outcome: ResumeRunOutcome }
  | { readonly kind: 'RETRY'; readonly runId: string; readonly outcome: RetryRunOutcome }
  | { readonly kind: 'SIGNAL'; readonly command: SendSignal; readonly outcome: SendSignalOutcome }
  | { readonly kind: 'DELETE'; readonly runId: string; readonly outcome: DeleteRunOutcome }
  | { readonly kind: 'DISMISS'; readonly runId: string; readonly outcome: DismissRunOutcome };

export interface BulkChunk {
  readonly operation: BulkOperation;
  /** What a SIGNAL sends. */
  readonly payload: Payload | null;
  readonly maxUnconsumedSignals: number;
  readonly runIds: readonly string[];
}

/**
 * @param db in the transaction that moves the cursor, except for RETRY, whose runs are statements of their own: a repeat is recognised by
 *   its request id
 * @returns what became of each run, in order
 */
export async function carryOut(db: Database, chunk: BulkChunk): Promise<readonly BulkAct[]> {
  const { operation, runIds, payload, maxUnconsumedSignals } = chunk;
  const { kind, namespace, actor, reason, operationId } = operation;
  const commands = runIds.map((runId) => ({ namespace, runId, reason }));
  const action = { actor, requestId: `bulk ${operationId}` };
  switch (kind) {
    case 'CANCEL':
      return pairs(commands, await cancelRuns(db, commands), (command, outcome) => ({ kind, command, outcome }));
    case 'TERMINATE':
      return pairs(commands, await terminateRuns(db, commands), (command, outcome) => ({ kind, command, outcome }));
    case 'PAUSE': {
      const pauses = commands.map((command) => ({ ...command, by: actor }));
      return pairs(pauses, await pauseRuns(db, pauses), (command, outcome) => ({ kind, command, outcome }));
    }
    case 'RESUME': {
      const resumes = commands.map((command) => ({ ...command, by: actor }));
      return pairs(resumes, await resumeRuns(db, resumes), ({ runId }, outcome) => ({ kind, runId, outcome }));
    }
    case 'RETRY': {
      const retries = commands.map((command) => ({ ...command, ...action }));
      return pairs(retries, await retryRuns(db, retries), ({ runId }, outcome) => ({ kind, runId, outcome }));
    }
    case 'DISMISS': {
      const dismissals = commands.map((command) => ({ ...command, ...action }));
      return pairs(dismissals, await dismissRuns(db, dismissals), ({ runId }, outcome) => ({ kind, runId, outcome }));
    }
    case 'SIGNAL': {
      const name = operation.signalName ?? '';
      const signal = { name, payload, sender: actor, requestId: action.requestId, maxUnconsumed: maxUnconsumedSignals };
      const signals = commands.map((command) => ({ ...command, ...signal }));
      return pairs(signals, await sendSignals(db, signals), (command, outcome) => ({ kind, command, outcome }));
    }
    case 'DELETE':
      return pairs(commands, await deleteRuns(db, commands), ({ runId }, outcome) => ({ kind, runId, outcome }));
  }
}

/** Relatives are told and closed before the runs are locked, because a transaction never locks a run and its parent or child. */
export async function beforeDeletion(db: Database, runIds: readonly string[]): Promise<void> {
  await tellParents(db, runIds);
  await closeChildren(db, runIds);
}

function pairs<Command, Outcome>(
  commands: readonly Command[],
  outcomes: readonly Outcome[],
  act: (command: Command, outcome: Outcome) => BulkAct,
): BulkAct[] {
  return commands.map((command, index) => act(command, outcomes[index] as Outcome));
}

export type BulkVerdict = 'changed' | 'unchanged' | 'refused';

export interface BulkResult {
  readonly verdict: BulkVerdict;
  /** When refused. */
  readonly refusal?: BulkRefusal;
}

/** A run that ended, or was changed by somebody else, between the look and the act is unchanged and not refused. */
export function resultOf(act: BulkAct): BulkResult {
  switch (act.outcome.kind) {
    case 'cancelled':
    case 'requested':
    case 'terminated':
    case 'paused':
    case 'resumed':
    case 'retried':
    case 'sent':
    case 'deleted':
    case 'dismissed':
    // By this operation, before its server died.
    case 'already_retried':
      return CHANGED;
    case 'workflow_id_taken':
      return refused(act, `Run ${act.outcome.runId} with the same workflow id is open.`);
    case 'too_many_signals':
      return refused(act, `It keeps ${act.outcome.max} signals that no step has received, as many as it may.`);
    case 'compensated':
      return refused(act, 'What it did was compensated, so it cannot be retried; restart it.');
    default:
      return UNCHANGED;
  }
}

const CHANGED: BulkResult = { verdict: 'changed' };
const UNCHANGED: BulkResult = { verdict: 'unchanged' };

function refused(act: BulkAct, why: string): BulkResult {
  return { verdict: 'refused', refusal: { runId: 'runId' in act ? act.runId : act.command.runId, why } };
}
