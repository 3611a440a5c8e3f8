import { toJson } from '@bufbuild/protobuf';
import {
  dateOf,
  type FailureOriginFacts,
  failureCategory,
  type RunAction,
  type StepAttempt,
  StepAttemptSchema,
  StepKind,
  StepStatus,
} from '@perdure/proto';
import pc from 'picocolors';
import { actionJson, actionText } from './action-view.js';
import { failureChain, failureJson, failureText } from './failures.js';
import { payloadJson, payloadText } from './payloads.js';
import { fieldsText, type ListView } from './print.js';
import { stepStatusText } from './statuses.js';
import { terminalWidth } from './table.js';
import { safe } from './text.js';
import { betweenMs, spanText, timeText } from './time.js';

export function stepJson(step: StepAttempt): unknown {
  const json = toJson(StepAttemptSchema, step, { alwaysEmitImplicit: true }) as Record<string, unknown>;
  return {
    ...json,
    kind: StepKind[step.kind],
    status: StepStatus[step.status],
    ...(step.input === undefined ? {} : { input: payloadJson(step.input) }),
    ...(step.output === undefined ? {} : { output: payloadJson(step.output) }),
    ...(step.heartbeat === undefined ? {} : { heartbeat: payloadJson(step.heartbeat) }),
    ...(step.failure === undefined ? {} : { failure: failureJson(step.failure, placeOf(step)) }),
    ...(step.byHand === undefined ? {} : { byHand: actionJson(step.byHand) }),
  };
}

/** Where the failure of an attempt is recorded. */
function placeOf({ runId, stepId, countedAttempt, maxCountedAttempts }: StepAttempt): FailureOriginFacts {
  return { runId, workflowType: '', stepId, attempt: countedAttempt, maxAttempts: maxCountedAttempts };
}

const BAR_WIDTH = 24;
/** The bars are shown in terminals of at least this many columns. */
const BARS_FROM_COLUMNS = 160;

/**
 * @param steps all that will be shown: the bars share one scale
 * @param nameOf a worker's name
 */
export function stepListView(
  steps: readonly StepAttempt[],
  nameOf: (workerId: string) => string = (workerId) => workerId,
): ListView<StepAttempt> {
  const width = terminalWidth();
  const showBars = Number.isFinite(width) && width >= BARS_FROM_COLUMNS;
  const bar = barsOf(steps);
  return {
    columns: [
      { title: '#', align: 'right', value: (step) => String(step.seq) },
      { title: 'STEP', min: 12, value: (step) => safe(step.stepId) },
      { title: 'KIND', dispensable: 1, value: (step) => StepKind[step.kind] ?? '' },
      { title: 'ATTEMPT', align: 'right', value: attemptText },
      { title: 'STATUS', value: stepStatusText },
      { title: 'STARTED', dispensable: 2, value: (step) => timeText(step.startedAt) },
      {
        title: 'TOOK',
        align: 'right',
        dispensable: 3,
        value: (step) => spanText(betweenMs(step.startedAt, step.finishedAt)),
      },
      ...(showBars ? [{ title: 'WHEN', value: bar }] : []),
      {
        title: 'CATEGORY',
        dispensable: 1,
        value: (step) => (step.failure === undefined ? '' : failureCategory(step.failure)),
      },
      { title: 'NEXT', value: nextText },
      { title: 'ERROR', min: 20, value: (step) => failureChain(step.failure) },
      { title: 'WORKER', wide: true, value: (step) => (step.workerId === '' ? '' : safe(nameOf(step.workerId))) },
      { title: 'LEASE', wide: true, align: 'right', value: (step) => String(step.leaseToken) },
    ],
    id: (step) => step.stepId,
    json: stepJson,
    empty: 'No step has begun yet.',
  };
}

function barsOf(steps: readonly StepAttempt[]): (step: StepAttempt) => string {
  const begins = steps.map((step) => dateOf(step.startedAt)?.getTime() ?? 0);
  const ends = steps.map((step, index) => dateOf(step.finishedAt)?.getTime() ?? (begins[index] as number));
  const begin = begins.reduce((least, ms) => Math.min(least, ms), Number.POSITIVE_INFINITY);
  const spanMs = Math.max(1, ends.reduce((most, ms) => Math.max(most, ms), 0) - begin);
  const at = (ms: number) => Math.min(BAR_WIDTH - 1, Math.floor(((ms - begin) / spanMs) * BAR_WIDTH));
  return (step) => {
    const from = at(dateOf(step.startedAt)?.getTime() ?? begin);
    const to = at(dateOf(step.finishedAt)?.getTime() ?? begin + spanMs);
    const body = '▇'.repeat(to - from + 1);
    return `${' '.repeat(from)}${step.status === StepStatus.FAILED ? pc.red(body) : pc.cyan(body)}`;
  };
}

/** `2 of 3`: the counted attempt of those that the policy allows; `4 (2 of 3)` when not all attempts count. */
export function attemptText(step: StepAttempt): string {
  const { kind, awaits, attemptNumber, countedAttempt, maxCountedAttempts } = step;
  if (kind === StepKind.SLEEP || awaits !== '' || kind === StepKind.UPDATE) return '';
  const counted = maxCountedAttempts > 0 ? `${countedAttempt} of ${maxCountedAttempts}` : String(countedAttempt);
  return attemptNumber === countedAttempt ? counted : `${attemptNumber} (${counted})`;
}

/** What a step waits for from outside: `signal approved`, `promise 3f…`. */
export const awaitsText = ({ kind, awaits }: StepAttempt): string =>
  `${(StepKind[kind] ?? '').toLowerCase()} ${safe(awaits)}`;

/** True when some attempt does not count, which a reader has to be told once. */
export const hasUncounted = (steps: readonly StepAttempt[]): boolean =>
  steps.some(({ attemptNumber, countedAttempt }) => attemptNumber !== countedAttempt);

/** What follows after an attempt. */
function nextText(step: StepAttempt): string {
  if (step.isCut) return 'taken back: the run was retried';
  if (step.byHand !== undefined) return `by hand: ${byText(step.byHand)}`;
  const message = messageText(step);
  if (message !== '') return message;
  if (step.kind === StepKind.SLEEP) {
    return step.status === StepStatus.RUNNING ? `wakes ${timeText(step.firesAt)}` : '';
  }
  if (step.awaits !== '') {
    if (step.status !== StepStatus.RUNNING) return step.kind === StepKind.CHILD ? awaitsText(step) : '';
    const timeout = step.firesAt === undefined ? '' : ` until ${timeText(step.firesAt)}`;
    return `waits for ${awaitsText(step)}${timeout}`;
  }
  if (step.status === StepStatus.RUNNING) {
    return step.deadlineAt === undefined ? '' : `times out ${timeText(step.deadlineAt)}`;
  }
  if (step.status !== StepStatus.FAILED) return '';
  if (!step.isLatest) return 'retried';
  if (step.nextRetryAt !== undefined) return `retry at ${timeText(step.nextRetryAt)}`;
  return 'final';
}

/** `ada@web-3: the bank says it was paid`. */
const byText = ({ actor, reason }: RunAction): string =>
  [safe(actor), safe(reason)].filter((text) => text !== '').join(': ');

/** What a step has received, and from whom; empty unless it is a signal or an update. */
export function messageText({ kind, awaits, sender, status }: StepAttempt): string {
  const isMessage = kind === StepKind.SIGNAL || kind === StepKind.UPDATE;
  if (!isMessage || status !== StepStatus.COMPLETED) return '';
  return `got ${safe(awaits)}${sender === '' ? '' : ` from ${safe(sender)}`}`;
}

/** @param fullStack also the frames of Perdure and Node */
export function stepText(step: StepAttempt, fullStack: boolean): string {
  return fieldsText([
    ['run', step.runId],
    ['step', safe(step.stepId)],
    ['position', String(step.seq)],
    ['kind', StepKind[step.kind]],
    ['attempt', attemptText(step)],
    ['status', stepStatusText(step)],
    ['worker', step.workerId === '' ? undefined : `${step.workerId} (lease ${step.leaseToken})`],
    ['started', timeText(step.startedAt)],
    ['ended', timeText(step.finishedAt)],
    ['took', spanText(betweenMs(step.startedAt, step.finishedAt))],
    ['waits for', step.awaits === '' ? undefined : awaitsText(step)],
    [step.awaits === '' ? 'wakes' : 'times out', timeText(step.firesAt)],
    ['next attempt', timeText(step.nextRetryAt)],
    ['times out', timeText(step.deadlineAt)],
    ['received', messageText(step)],
    ['by hand', step.byHand === undefined ? undefined : actionText(step.byHand)],
    ['input', payloadText(step.input)],
    ['output', payloadText(step.output)],
    ['heartbeat', payloadText(step.heartbeat)],
    ['error', failureText(step.failure, fullStack, placeOf(step))],
  ]);
}
