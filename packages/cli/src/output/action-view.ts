import { type RunAction, RunActionKind, RunStatus } from '@perdure/proto';
import { failureChain, failureJson } from './failures.js';
import { safe } from './text.js';
import { timeText } from './time.js';

const WHAT: Readonly<Record<RunActionKind, string>> = {
  [RunActionKind.UNSPECIFIED]: 'changed',
  [RunActionKind.RETRY]: 'retried',
  [RunActionKind.RESTART]: 'restarted',
  [RunActionKind.DISMISS]: 'dismissed',
  [RunActionKind.COMPLETE_STEP]: 'completed step',
  [RunActionKind.FAIL_STEP]: 'failed step',
  [RunActionKind.SKIP_STEP]: 'skipped step',
  [RunActionKind.FORK]: 'forked from step',
};

export function actionJson(action: RunAction): unknown {
  const { kind, actor, reason, otherRunId, previousStatus, previousFailure, stepId } = action;
  return {
    kind: RunActionKind[kind],
    actedAt: timeText(action.actedAt) ?? null,
    actor,
    reason,
    otherRunId,
    stepId,
    previousStatus: RunStatus[previousStatus],
    ...(previousFailure === undefined ? {} : { previousFailure: failureJson(previousFailure) }),
  };
}

/** `2026-11-25 10:00:00 retried by ada@web-3: it is repaired (was FAILED: Error: boom)`. */
export function actionText(action: RunAction): string {
  const { kind, actor, reason, otherRunId, previousStatus, previousFailure, stepId } = action;
  const other = otherRunId === '' ? '' : ` as ${otherRunId}`;
  const step = stepId === '' ? '' : ` '${safe(stepId)}'`;
  const error = previousFailure === undefined ? '' : `: ${failureChain(previousFailure)}`;
  const was = previousStatus === RunStatus.UNSPECIFIED ? '' : ` (was ${RunStatus[previousStatus]}${error})`;
  const by = actor === '' ? '' : ` by ${safe(actor)}`;
  return `${timeText(action.actedAt) ?? ''} ${WHAT[kind]}${step}${other}${by}${reason === '' ? '' : `: ${safe(reason)}`}${was}`;
}
