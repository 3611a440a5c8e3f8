/** Following a run to its end. */
import { RunStatus, type StepAttempt, type WorkflowRun } from '@perdure/proto';
import pc from 'picocolors';
import { CliError, EXIT } from '../exit-codes.js';
import { failureChain, failureText } from '../output/failures.js';
import { payloadJson, payloadText } from '../output/payloads.js';
import { isTable, printOne, write } from '../output/print.js';
import { placeOf, runJson } from '../output/run-view.js';
import { runStatusText, stepStatusText } from '../output/statuses.js';
import { attemptText, messageText, stepJson } from '../output/step-view.js';
import { safe } from '../output/text.js';
import { betweenMs, spanText, timeText } from '../output/time.js';
import { runIdOf, type Session } from '../session.js';
import { WorkerNames } from './worker-names.js';

export async function watchRun(session: Session, id: string, fullStack: boolean): Promise<void> {
  const runId = await runIdOf(session, id);
  const isJson = session.output === 'json' || session.output === 'jsonl';
  const names = new WorkerNames(session);
  const isNew = newStates();
  let last: WorkflowRun | undefined;
  for await (const change of session.workflows.watchRun({ namespace: session.namespace, runId })) {
    if (change.run !== undefined) last = change.run;
    if (isJson) {
      write(
        JSON.stringify({
          ...(change.run === undefined ? {} : { run: runJson(change.run) }),
          steps: change.steps.map(stepJson),
        }),
      );
    } else if (isTable(session.output)) {
      for (const step of change.steps) if (isNew(step)) write(stepLine(step));
      if (change.run !== undefined) {
        await names.load([change.run.leasedBy]);
        write(runLine(change.run, names.of));
      }
    }
  }
  if (last !== undefined) endOf(session, last, { quiet: isJson, fullStack });
}

/** An attempt also changes when a later one replaces it as the latest; each status is shown once. */
function newStates(): (step: StepAttempt) => boolean {
  const told = new Set<string>();
  return ({ stepId, attemptNumber, status }) => {
    const state = `${attemptNumber} ${status} ${stepId}`;
    if (told.has(state)) return false;
    told.add(state);
    return true;
  };
}

function stepLine(step: StepAttempt): string {
  const attempt = attemptText(step);
  const took = step.finishedAt === undefined ? '' : ` after ${spanText(betweenMs(step.startedAt, step.finishedAt))}`;
  const why = step.failure === undefined ? '' : ` ${pc.red(failureChain(step.failure))}`;
  const next = step.nextRetryAt === undefined || !step.isLatest ? '' : `, next attempt ${timeText(step.nextRetryAt)}`;
  const wakes = step.firesAt === undefined || step.finishedAt !== undefined ? '' : ` until ${timeText(step.firesAt)}`;
  const message = messageText(step);
  const got = message === '' ? '' : `, ${message}`;
  const name = `step ${safe(step.stepId)}${attempt === '' ? '' : ` attempt ${attempt}`}`;
  return `${timeText(step.finishedAt ?? step.startedAt)}  ${name} ${stepStatusText(step)}${wakes}${took}${got}${why}${next}`;
}

function runLine(run: WorkflowRun, nameOf: (workerId: string) => string): string {
  const wakes = run.wakeAt === undefined ? '' : `, wakes ${timeText(run.wakeAt)}`;
  const worker = run.leasedBy === '' ? '' : ` on worker ${safe(nameOf(run.leasedBy))}`;
  const cancel = run.cancelRequestedAt === undefined || run.finishedAt !== undefined ? '' : ', cancel requested';
  return `${timeText(run.updatedAt)}  ${pc.bold('run')} ${runStatusText(run.status)}${worker}${wakes}${cancel}`;
}

export async function showResult(session: Session, runId: string, fullStack: boolean): Promise<void> {
  for (;;) {
    const end = await session.workflows.awaitRun({ namespace: session.namespace, runId });
    if (end.ended) return endOf(session, end, { quiet: false, fullStack });
  }
}

/** Prints how a run ended; anything other than COMPLETED is exit code 1. */
function endOf(
  session: Session,
  run: Pick<WorkflowRun, 'runId' | 'status' | 'output' | 'failure' | 'cancelReason'>,
  { quiet, fullStack }: { readonly quiet: boolean; readonly fullStack: boolean },
): void {
  if (run.status === RunStatus.COMPLETED) {
    if (quiet) return;
    const text = payloadText(run.output) ?? pc.dim('(no output)');
    printOne(session.output, { id: run.runId, json: payloadJson(run.output) ?? null, text });
    return;
  }
  const why = failureText(run.failure, fullStack, placeOf({ workflowType: '', ...run })) ?? safe(run.cancelReason);
  throw new CliError(`Run ${run.runId} ended ${RunStatus[run.status]}. ${why}`, EXIT.failed);
}
