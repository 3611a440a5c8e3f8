/** Where a run is, why it is not moving, and what to do. */
import {
  Compensation,
  type DescribeRunResponse,
  RunStatus,
  type StepAttempt,
  StepKind,
  StepStatus,
  WaitReason,
  type WorkflowRun,
} from '@perdure/proto';
import pc from 'picocolors';
import { actionJson, actionText } from './action-view.js';
import { failureChain } from './failures.js';
import { lostLeaseJson, lostLeaseText } from './lost-lease-view.js';
import { pauseFields } from './pause-view.js';
import { payloadLine } from './payloads.js';
import { fieldsText } from './print.js';
import { payloadFields, runFields, runJson } from './run-view.js';
import { attemptText, awaitsText, stepJson } from './step-view.js';
import { count, safe } from './text.js';
import { betweenMs, spanText, timeFromText } from './time.js';
import { workerJson } from './worker-view.js';

export function describeJson(described: DescribeRunResponse): unknown {
  const { currentSteps, worker, run, waitReason } = described;
  return {
    run: runJson(run as WorkflowRun),
    waitReason: WaitReason[waitReason],
    explanation: described.explanation,
    next: nextSteps(described),
    currentSteps: currentSteps.map(stepJson),
    completedSteps: described.completedSteps,
    attempts: described.attempts,
    worker: worker === undefined ? null : workerJson(worker),
    workersOnline: described.workersOnline,
    workersWithType: described.workersWithType,
    reapersAlive: described.reapersAlive,
    actions: described.actions.map(actionJson),
    lostLeases: described.lostLeases.map(lostLeaseJson),
  };
}

export function describeText(described: DescribeRunResponse, fullStack: boolean): string {
  const run = described.run as WorkflowRun;
  const { completedSteps, attempts, workersOnline, workersWithType, reapersAlive, currentSteps, now } = described;
  const open = run.finishedAt === undefined;
  const summary = [
    `${count(completedSteps, 'step')} completed, ${count(attempts, 'attempt')}`,
    ...(open
      ? [
          `${count(workersOnline, 'worker')} online for its queue, ${workersWithType} with its type`,
          `${count(reapersAlive, 'reaper')} alive`,
        ]
      : []),
  ];
  const next = nextSteps(described);
  return [
    fieldsText([
      ...runFields(run),
      ...pauseFields(run, fullStack),
      ['worker', workerText(described)],
      ...payloadFields(run, fullStack),
    ]),
    '',
    pc.bold(safe(described.explanation)),
    pc.dim(`${summary.join('; ')}.`),
    ...(currentSteps.length > 0 ? ['', pc.dim('now'), fieldsOf(currentSteps.map((step) => nowLine(step, now)))] : []),
    ...lostLines(described),
    ...(described.actions.length > 0
      ? ['', pc.dim('by hand'), ...described.actions.map((action) => `  ${actionText(action)}`)]
      : []),
    ...(next.length > 0 ? ['', pc.dim('next'), ...next.map((line) => `  ${safe(line)}`)] : []),
  ].join('\n');
}

/** The workers that it has lost, unless its error names them. */
function lostLines({ run, lostLeases }: DescribeRunResponse): string[] {
  if (lostLeases.length === 0 || (run?.failure?.lostLeases.length ?? 0) > 0) return [];
  return ['', pc.dim('lost workers'), ...lostLeases.map((lease) => `  ${lostLeaseText(lease)}`)];
}

/** `web-3:4711, build b7 (01a2…); last sign of life 1.2 s ago; lease ends in 8.8 s`. */
function workerText({ run, worker, now }: DescribeRunResponse): string | undefined {
  if (run === undefined || run.leasedBy === '') return undefined;
  const endsInMs = betweenMs(now, run.leaseExpiresAt);
  const lease =
    endsInMs === undefined
      ? ''
      : endsInMs < 0
        ? `; lease ended ${spanText(-endsInMs)} ago`
        : `; lease ends in ${spanText(endsInMs)}`;
  if (worker === undefined) return `${run.leasedBy}${lease}`;
  const build = worker.build === '' ? '' : `, build ${safe(worker.build)}`;
  const silentMs = Math.max(0, betweenMs(worker.lastSeenAt, now) ?? 0);
  return `${safe(worker.identity)}${build} (${worker.workerId}); last sign of life ${spanText(silentMs)} ago${lease}`;
}

type NowLine = readonly [step: string, state: string];

function nowLine(step: StepAttempt, now: DescribeRunResponse['now']): NowLine {
  return [safe(step.stepId), stateText(step, now)];
}

function stateText(step: StepAttempt, now: DescribeRunResponse['now']): string {
  if (step.kind === StepKind.SLEEP) return `sleeps until ${timeFromText(step.firesAt, now)}`;
  if (step.awaits !== '') {
    return [
      `waits for ${awaitsText(step)}, since ${timeFromText(step.startedAt, now)}`,
      ...(step.firesAt === undefined ? [] : [`times out ${timeFromText(step.firesAt, now)}`]),
    ].join(', ');
  }
  const attempt = `attempt ${attemptText(step)}`;
  if (step.status !== StepStatus.RUNNING) {
    const isDue = (betweenMs(now, step.nextRetryAt) ?? 0) <= 0;
    const next = isDue ? 'when a worker resumes the run' : timeFromText(step.nextRetryAt, now);
    return `${attempt} failed: ${failureChain(step.failure)}; next attempt ${next}`;
  }
  return [
    `${attempt}, running since ${timeFromText(step.startedAt, now)}`,
    ...(step.deadlineAt === undefined ? [] : [`times out ${timeFromText(step.deadlineAt, now)}`]),
    ...(step.heartbeat === undefined ? [] : [`heartbeat ${payloadLine(step.heartbeat)}`]),
  ].join(', ');
}

function fieldsOf(lines: readonly NowLine[]): string {
  const width = Math.max(...lines.map(([step]) => step.length));
  return lines.map(([step, state]) => `  ${step.padEnd(width)}  ${state}`).join('\n');
}

const MAX_NEXT = 3;

/** The command that brings what a step waits for. */
function bringing(step: StepAttempt, perdure: (command: string, purpose: string) => string): string[] {
  return step.kind === StepKind.PROMISE && step.awaits !== ''
    ? [perdure(`promise resolve ${step.awaits} '<json>'`, `resolve '${step.stepId}'`)]
    : [];
}

/** What a person may do now; a pure function of the answer. */
export function nextSteps({ run, waitReason, reapersAlive, currentSteps, now }: DescribeRunResponse): string[] {
  if (run === undefined) return [];
  const namespace = run.namespace === 'default' ? '' : `--namespace ${run.namespace} `;
  const perdure = (command: string, purpose: string) => `perdure ${namespace}${command}  # ${purpose}`;
  const history = perdure(`run history ${run.runId}`, 'every attempt of every step');
  if (run.status === RunStatus.FAILED)
    return [
      history,
      perdure(`run get ${run.runId} --full-stack`, 'the whole error'),
      run.compensation === Compensation.COMPLETE
        ? perdure(`run restart ${run.runId}`, 'another run with the same input')
        : run.compensation === Compensation.PARTIAL
          ? perdure(`run retry ${run.runId}`, 'try the compensations again that have failed')
          : perdure(`run retry ${run.runId}`, 'continue from where it failed'),
    ];
  if (run.finishedAt !== undefined) return [];
  const late = (betweenMs(run.wakeAt, now) ?? 0) > 0 || waitReason === WaitReason.LEASE_EXPIRED;
  const reaper = late && reapersAlive === 0 ? ['perdure reaper  # nobody wakes sleepers until one runs'] : [];
  switch (waitReason) {
    case WaitReason.NO_WORKER:
      return [perdure(`worker list --all -q '${run.taskQueue}'`, 'workers that have gone')];
    case WaitReason.NO_WORKER_FOR_TYPE:
      return [perdure(`worker list -o wide -q '${run.taskQueue}'`, 'the workflows that each worker has')];
    case WaitReason.NO_FREE_SLOT:
      return [perdure('queue list', 'slots and how many are taken')];
    case WaitReason.STEP_RETRY:
    case WaitReason.RUN_RETRY:
    case WaitReason.RECLAIM_BACKOFF:
      return [...reaper, history];
    case WaitReason.PAUSED:
      return [perdure(`run resume ${run.runId}`, 'let it continue')];
    case WaitReason.HELD:
      return [
        perdure(`run resume ${run.runId}`, 'when the code is rolled back or fixed'),
        perdure(`run resume --held -t '${run.workflowType}'`, 'all held runs of its type'),
        history,
      ];
    case WaitReason.TASK_QUEUE_PAUSED:
      return [perdure(`queue resume '${run.taskQueue}'`, 'let its queue continue')];
    case WaitReason.WORKFLOW_TYPE_PAUSED:
      return [perdure(`workflow resume '${run.workflowType}'`, 'let its type continue')];
    case WaitReason.ARRIVAL:
      return [...reaper, ...currentSteps.slice(0, MAX_NEXT).flatMap((step) => bringing(step, perdure))];
    case WaitReason.EXECUTING:
      return currentSteps.some((step) => step.failure !== undefined)
        ? [history]
        : [perdure(`run watch ${run.runId}`, 'follow it')];
    default:
      return reaper;
  }
}
