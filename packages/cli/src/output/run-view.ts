import { toJson } from '@bufbuild/protobuf';
import {
  Compensation,
  type FailureOriginFacts,
  ParentClose,
  RunOrigin,
  RunStatus,
  type WorkflowRun,
  WorkflowRunSchema,
} from '@perdure/proto';
import { failureChain, failureJson, failureText } from './failures.js';
import { pauseFields } from './pause-view.js';
import { payloadJson, payloadText } from './payloads.js';
import { fieldsText, type ListView } from './print.js';
import { compensationText, runStatusText } from './statuses.js';
import { count, safe } from './text.js';
import { betweenMs, spanText, timeText } from './time.js';

/** A run for `-o json`: the API's JSON with nothing left out, payloads decoded. */
export function runJson(run: WorkflowRun): unknown {
  const json = toJson(WorkflowRunSchema, run, { alwaysEmitImplicit: true }) as Record<string, unknown>;
  return {
    ...json,
    status: RunStatus[run.status],
    compensation: Compensation[run.compensation],
    parentClose: ParentClose[run.parentClose],
    origin: RunOrigin[run.origin],
    ...(run.input === undefined ? {} : { input: payloadJson(run.input) }),
    ...(run.output === undefined ? {} : { output: payloadJson(run.output) }),
    ...(run.failure === undefined ? {} : { failure: failureJson(run.failure, placeOf(run)) }),
    ...(run.pause?.failure === undefined
      ? {}
      : { pause: { ...(json.pause as object), failure: failureJson(run.pause.failure) } }),
  };
}

export const runListView: ListView<WorkflowRun> = {
  columns: [
    { title: 'RUN', value: (run) => run.runId },
    { title: 'WORKFLOW ID', min: 12, value: (run) => (run.workflowId === run.runId ? '' : safe(run.workflowId)) },
    { title: 'TYPE', min: 10, value: (run) => safe(run.workflowType) },
    { title: 'QUEUE', min: 8, dispensable: 1, value: (run) => safe(run.taskQueue) },
    { title: 'STATUS', value: (run) => runStatusText(run.status) },
    { title: 'CREATED', dispensable: 3, value: (run) => timeText(run.createdAt) },
    {
      title: 'TOOK',
      align: 'right',
      dispensable: 2,
      value: (run) => spanText(betweenMs(run.createdAt, run.finishedAt)),
    },
    { title: 'ORIGIN', wide: true, value: (run) => originText(run) ?? '' },
    { title: 'COMPENSATION', wide: true, value: (run) => compensationText(run.compensation) ?? '' },
    { title: 'ATTEMPT', align: 'right', wide: true, value: (run) => String(run.attempt) },
    { title: 'BUILD', wide: true, value: (run) => safe(run.build) },
    { title: 'WORKER', wide: true, value: (run) => run.leasedBy },
    { title: 'ERROR', wide: true, value: (run) => failureChain(run.failure) },
  ],
  id: (run) => run.runId,
  json: runJson,
  empty: 'No run matches.',
};

/** @param fullStack also the frames of Perdure and Node */
export function runText(run: WorkflowRun, fullStack: boolean): string {
  return fieldsText([...runFields(run), ...pauseFields(run, fullStack), ...payloadFields(run, fullStack)]);
}

/** Who and when. */
export function runFields(run: WorkflowRun): [string, string | undefined][] {
  return [
    ['run', run.runId],
    ['workflow id', safe(run.workflowId)],
    ['type', safe(run.workflowType)],
    ['queue', safe(run.taskQueue)],
    ['namespace', run.namespace],
    ['build', safe(run.build)],
    ['status', runStatusText(run.status)],
    ['compensation', compensationText(run.compensation)],
    ['attempt', run.attempt > 1 ? attemptsText(run) : undefined],
    ['parent', run.parentRunId === '' ? undefined : `${run.parentRunId}, step '${safe(run.parentStepId)}'`],
    ['origin', originText(run)],
    ['first of chain', run.firstRunId || undefined],
    ['continued as', run.nextRunId || undefined],
    ['priority', run.priority === 0 ? undefined : String(run.priority)],
    ['created', timeText(run.createdAt)],
    ['retried', timeText(run.retriedAt)],
    ['started', timeText(run.startedAt)],
    ['wakes', timeText(run.wakeAt)],
    ['run timeout', timeText(run.runDeadlineAt)],
    ['execution timeout', timeText(run.executionDeadlineAt)],
    ['start timeout', timeText(run.startDeadlineAt)],
    ['chain timeout', timeText(run.chainDeadlineAt)],
    ['ended', timeText(run.finishedAt)],
    ['took', spanText(betweenMs(run.createdAt, run.finishedAt))],
    ['fingerprint', run.failureFingerprint || undefined],
    ['resolved', timeText(run.resolvedAt)],
    ['cancel requested', timeText(run.cancelRequestedAt)],
    ['cancel reason', safe(run.cancelReason)],
  ];
}

export function payloadFields(run: WorkflowRun, fullStack: boolean): [string, string | undefined][] {
  return [
    ['input', payloadText(run.input)],
    ['output', payloadText(run.output)],
    [run.status === RunStatus.FAILED ? 'error' : 'last error', failureText(run.failure, fullStack, placeOf(run))],
  ];
}

/** Where the failure of a run is recorded. */
export function placeOf({
  runId,
  workflowType,
  failure,
}: Pick<WorkflowRun, 'runId' | 'workflowType' | 'failure'>): FailureOriginFacts {
  return { runId, workflowType, stepId: failure?.stepId ?? '', attempt: 0, maxAttempts: 0 };
}

export function originText({ origin, originRunId }: WorkflowRun): string | undefined {
  switch (origin) {
    case RunOrigin.RESTART:
      return `restart of ${originRunId}`;
    case RunOrigin.FORK:
      return `fork of ${originRunId}`;
    case RunOrigin.CONTINUE:
      return `continues ${originRunId}`;
    default:
      return undefined;
  }
}

/** `4: 2 retries of the run, 1 lost lease`; the number rises with both. */
export function attemptsText({ attempt, retries, retriedAt }: WorkflowRun): string {
  // What came before a retry by hand is not counted any more.
  if (retriedAt !== undefined) return String(attempt);
  const lost = attempt - 1 - retries;
  const parts = [
    ...(retries === 1 ? ['1 retry of the run'] : retries > 1 ? [`${retries} retries of the run`] : []),
    ...(lost > 0 ? [count(lost, 'lost lease')] : []),
  ];
  return parts.length === 0 ? String(attempt) : `${attempt}: ${parts.join(', ')}`;
}
