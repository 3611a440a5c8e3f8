import { type RunAction, RunActionKind, RunStatus } from '@perdure/proto';
import { failureChain, failureJson } from './failures.js';
import { safe } from './text.js';
import { timeText } from './time.js';

const WHAT: Readonly<Record<RunActionKind, string>> = {
  [RunActionKind.UNSPECIFIED]: 'changed',
  [RunActionKind.RETRY]: 'retried',
  [RunActionKind.RESTART]: 'restarted',
  [RunActionKind.FORK]: 'forked',
  [RunActionKind.COMPLETE_STEP]: 'completed',
  [RunActionKind.FAIL_STEP]: 'failed',
};

export function actionJson(action: RunAction): unknown {
  const { kind, actor, reason, stepId, otherRunId, previousStatus, previousFailure } = action;
  return {
    kind: RunActionKind[kind],
    actedAt: timeText(action.actedAt) ?? null,
    actor,
    reason,
    stepId,
    otherRunId,
    previousStatus: RunStatus[previousStatus],
    ...(previousFailure === undefined ? {} : { previousFailure: failureJson(previousFailure) }),
  };
}

/** `2026-11-25 10:00:00 retried by ada@web-3: it is repaired (was FAILED: Error: boom)`. */
export function actionText(action: RunAction): string {
  const { kind, actor, reason, stepId, otherRunId, previousStatus, previousFailure } = action;
  const step = stepId === '' ? '' : ` step '${safe(stepId)}'`;
  const other = otherRunId === '' ? '' : ` as ${otherRunId}`;
  const error = previousFailure === undefined ? '' : `: ${failureChain(previousFailure)}`;
  const was = previousStatus === RunStatus.UNSPECIFIED ? '' : ` (was ${RunStatus[previousStatus]}${error})`;
  const by = actor === '' ? '' : ` by ${safe(actor)}`;
  return `${timeText(action.actedAt) ?? ''} ${WHAT[kind]}${step}${other}${by}${reason === '' ? '' : `: ${safe(reason)}`}${was}`;
}
