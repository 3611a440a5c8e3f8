import { type FailureGroup, FailureReason } from '@perdure/proto';
import type { ListView } from './print.js';
import { safe } from './text.js';
import { timeJson, timeText } from './time.js';

/** The server counts no further. */
const MAX_COUNTED = 10_000;

export const failureGroupView: ListView<FailureGroup> = {
  columns: [
    { title: 'FINGERPRINT', value: (group) => group.fingerprint },
    { title: 'RUNS', align: 'right', value: ({ runs }) => (runs >= MAX_COUNTED ? `${runs}+` : String(runs)) },
    { title: 'TYPE', min: 10, value: (group) => safe(group.workflowType) },
    { title: 'STEP', min: 8, dispensable: 4, value: (group) => safe(group.newestFailure?.stepId ?? '') },
    { title: 'ERROR', min: 24, value: errorText },
    { title: 'FIRST', dispensable: 1, value: (group) => timeText(group.firstFailedAt) },
    { title: 'LAST', dispensable: 2, value: (group) => timeText(group.lastFailedAt) },
    { title: 'NEWEST RUN', dispensable: 3, value: (group) => group.newestRunId },
  ],
  id: (group) => group.fingerprint,
  json: ({ fingerprint, workflowType, runs, firstFailedAt, lastFailedAt, newestRunId, newestFailure: failure }) => ({
    fingerprint,
    workflowType,
    runs,
    firstFailedAt: timeJson(firstFailedAt),
    lastFailedAt: timeJson(lastFailedAt),
    newestRunId,
    newestFailure: {
      type: failure?.type ?? '',
      code: failure?.code ?? '',
      message: failure?.message ?? '',
      reason: FailureReason[failure?.reason ?? 0],
      stepId: failure?.stepId ?? '',
    },
  }),
  empty: 'No dead letters.',
};

function errorText({ newestFailure: failure }: FailureGroup): string {
  if (failure === undefined) return '';
  return safe(`${failure.type}${failure.code === '' ? '' : ` [${failure.code}]`}: ${failure.message}`);
}
