import { toJson } from '@bufbuild/protobuf';
import { type StepAttempt, StepAttemptSchema, StepKind, StepStatus } from '@perdure/proto';
import pc from 'picocolors';
import { fieldsText, type ListView, safe } from './print.js';
import {
  betweenMs,
  dateOf,
  failureLine,
  failureText,
  payloadJson,
  payloadText,
  spanText,
  stepStatusText,
  timeText,
} from './values.js';

export function stepJson(step: StepAttempt): unknown {
  const json = toJson(StepAttemptSchema, step) as Record<string, unknown>;
  return {
    ...json,
    kind: StepKind[step.kind],
    status: StepStatus[step.status],
    ...(step.input === undefined ? {} : { input: payloadJson(step.input) }),
    ...(step.output === undefined ? {} : { output: payloadJson(step.output) }),
    ...(step.heartbeat === undefined ? {} : { heartbeat: payloadJson(step.heartbeat) }),
  };
}

const BAR_WIDTH = 24;
/** From so many columns on there is room for the bars. */
const BARS_FROM_COLUMNS = 130;

/** @param steps all that will be shown: the bars share one scale */
export function stepListView(steps: readonly StepAttempt[]): ListView<StepAttempt> {
  const showBars = (process.stdout.columns ?? 80) >= BARS_FROM_COLUMNS;
  const begins = steps.map((step) => dateOf(step.startedAt)?.getTime() ?? 0);
  const ends = steps.map((step, index) => dateOf(step.finishedAt)?.getTime() ?? (begins[index] as number));
  const begin = Math.min(...begins);
  const spanMs = Math.max(1, Math.max(...ends) - begin);
  const at = (ms: number) => Math.min(BAR_WIDTH - 1, Math.floor(((ms - begin) / spanMs) * BAR_WIDTH));
  const bar = (step: StepAttempt): string => {
    const from = at(dateOf(step.startedAt)?.getTime() ?? begin);
    const to = at(dateOf(step.finishedAt)?.getTime() ?? begin + spanMs);
    const body = '▇'.repeat(to - from + 1);
    return `${' '.repeat(from)}${step.status === StepStatus.FAILED ? pc.red(body) : pc.cyan(body)}`;
  };
  return {
    columns: [
      { title: '#', align: 'right', value: (step) => String(step.seq) },
      { title: 'STEP', value: (step) => safe(step.stepId) },
      { title: 'KIND', value: (step) => StepKind[step.kind] ?? '' },
      { title: 'ATTEMPT', align: 'right', value: attemptText },
      { title: 'STATUS', value: (step) => stepStatusText(step.status) },
      { title: 'STARTED', value: (step) => timeText(step.startedAt) },
      { title: 'TOOK', align: 'right', value: (step) => spanText(betweenMs(step.startedAt, step.finishedAt)) },
      ...(showBars ? [{ title: 'WHEN', value: bar }] : []),
      { title: 'ERROR', value: (step) => failureLine(step.failure).slice(0, 100) },
      { title: 'WORKER', wide: true, value: (step) => step.workerId },
      { title: 'LEASE', wide: true, align: 'right', value: (step) => String(step.leaseToken) },
    ],
    id: (step) => step.stepId,
    json: stepJson,
    empty: 'No step has begun yet.',
  };
}

function attemptText(step: StepAttempt): string {
  return step.isLatest && step.attemptNumber === 1 ? '1' : `${step.attemptNumber}${step.isLatest ? '' : ' …'}`;
}

export function stepText(step: StepAttempt): string {
  const tries = step.maxTries > 0 ? ` of ${step.maxTries}` : '';
  return fieldsText([
    ['run', step.runId],
    ['step', safe(step.stepId)],
    ['position', String(step.seq)],
    ['kind', StepKind[step.kind]],
    ['attempt', `${step.attemptNumber} (try ${step.tryNumber}${tries})`],
    ['status', stepStatusText(step.status)],
    ['worker', `${step.workerId} (lease ${step.leaseToken})`],
    ['started', timeText(step.startedAt)],
    ['finished', timeText(step.finishedAt)],
    ['took', spanText(betweenMs(step.startedAt, step.finishedAt))],
    ['fires', timeText(step.firesAt)],
    ['next try', timeText(step.nextRetryAt)],
    ['times out', timeText(step.deadlineAt)],
    ['input', payloadText(step.input)],
    ['output', payloadText(step.output)],
    ['heartbeat', payloadText(step.heartbeat)],
    ['error', failureText(step.failure)],
  ]);
}
