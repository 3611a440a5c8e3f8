import { dateOf, StepKind, StepStatus, type StepAttempt as StoredAttempt } from '@perdure/proto';
import type { ClientContext } from '../../client/await-result.js';
import { decodeValue } from '../../codec/payload.js';
import { errorOf } from '../../errors/failure.js';

/** A step of a run as its history has it, with the latest of its attempts. */
export interface HistoryStep {
  /** The name, or `name#n` from its second use on. */
  readonly step: string;
  /** `step` is a body; the others are what the code waits for. */
  readonly kind: 'step' | 'sleep' | 'signal' | 'event' | 'promise' | 'child' | 'update' | 'other';
  readonly status: 'running' | 'completed' | 'failed' | 'cancelled' | 'timed out' | 'other';
  /** Attempts so far, those that were lost with their worker included. */
  readonly attempts: number;
  /** What it returned, or received; undefined otherwise. */
  readonly output: unknown;
  /** Why its latest attempt failed; undefined otherwise. */
  readonly error: Error | undefined;
  readonly startedAt: Date | undefined;
  readonly finishedAt: Date | undefined;
}

const KINDS: Partial<Record<StepKind, HistoryStep['kind']>> = {
  [StepKind.FUNCTION]: 'step',
  [StepKind.SLEEP]: 'sleep',
  [StepKind.SIGNAL]: 'signal',
  [StepKind.EVENT]: 'event',
  [StepKind.PROMISE]: 'promise',
  [StepKind.CHILD]: 'child',
  [StepKind.UPDATE]: 'update',
};

const STATUSES: Partial<Record<StepStatus, HistoryStep['status']>> = {
  [StepStatus.RUNNING]: 'running',
  [StepStatus.COMPLETED]: 'completed',
  [StepStatus.FAILED]: 'failed',
  [StepStatus.CANCELLED]: 'cancelled',
  [StepStatus.TIMED_OUT]: 'timed out',
};

/** @returns the steps of a run in the order of its code; those that a retry of the run has taken back are left out */
export async function readHistory({ service, namespace, codec }: ClientContext, runId: string): Promise<HistoryStep[]> {
  const latest = new Map<string, StoredAttempt>();
  let pageToken = '';
  do {
    const page = await service.getHistory({ namespace, runId, pageSize: 1_000, pageToken, includePayloads: true });
    for (const attempt of page.steps) if (attempt.isLatest && !attempt.isCut) latest.set(attempt.stepId, attempt);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return [...latest.values()]
    .sort((one, other) => one.seq - other.seq)
    .map((attempt) => ({
      step: attempt.stepId,
      kind: KINDS[attempt.kind] ?? 'other',
      status: STATUSES[attempt.status] ?? 'other',
      attempts: attempt.attemptNumber,
      output: decodeValue(codec, attempt.output),
      error: attempt.failure === undefined ? undefined : errorOf(codec, attempt.failure),
      startedAt: dateOf(attempt.startedAt),
      finishedAt: dateOf(attempt.finishedAt),
    }));
}
