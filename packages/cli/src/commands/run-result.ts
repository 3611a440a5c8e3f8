/** Following a run to its end. */
import { RunStatus, type StepAttempt, type WorkflowRun } from '@perdure/proto';
import pc from 'picocolors';
import { CliError, EXIT } from '../exit-codes.js';
import { printOne, safe, write } from '../output/print.js';
import { runJson } from '../output/run-view.js';
import { stepJson } from '../output/step-view.js';
import {
  failureText,
  payloadJson,
  payloadText,
  runStatusText,
  spanText,
  stepStatusText,
  timeText,
} from '../output/values.js';
import { runIdOf, type Session } from '../session.js';

export async function watchRun(session: Session, id: string): Promise<void> {
  const runId = await runIdOf(session, id);
  const isJson = session.output === 'json' || session.output === 'jsonl';
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
      continue;
    }
    for (const step of change.steps) {
      const took = step.finishedAt === undefined ? '' : ` after ${spanText(span(step))}`;
      const why = step.failure === undefined ? '' : ` ${pc.red(safe(step.failure.message))}`;
      write(
        `${timeText(step.finishedAt ?? step.startedAt)}  step ${safe(step.stepId)} attempt ${step.attemptNumber} ${stepStatusText(step.status)}${took}${why}`,
      );
    }
    if (change.run !== undefined) {
      const wakes = change.run.wakeAt === undefined ? '' : `, wakes ${timeText(change.run.wakeAt)}`;
      const worker = change.run.lockedBy === '' ? '' : ` on worker ${change.run.lockedBy}`;
      write(
        `${timeText(change.run.updatedAt)}  ${pc.bold('run')} ${runStatusText(change.run.status)}${worker}${wakes}`,
      );
    }
  }
  if (last !== undefined) endOf(session, last, isJson);
}

function span(step: StepAttempt): number | undefined {
  if (step.startedAt === undefined || step.finishedAt === undefined) return undefined;
  return (
    Number(step.finishedAt.seconds - step.startedAt.seconds) * 1000 +
    (step.finishedAt.nanos - step.startedAt.nanos) / 1e6
  );
}

export async function showResult(session: Session, runId: string): Promise<void> {
  for (;;) {
    const end = await session.workflows.awaitRun({ namespace: session.namespace, runId });
    if (end.finished) return endOf(session, end, false);
  }
}

/** Prints how a run ended; anything but COMPLETED is exit code 1. */
function endOf(
  session: Session,
  run: Pick<WorkflowRun, 'runId' | 'status' | 'output' | 'failure' | 'cancelReason'>,
  quiet: boolean,
): void {
  if (run.status === RunStatus.COMPLETED) {
    if (quiet) return;
    const text = payloadText(run.output) ?? pc.dim('(no output)');
    printOne(session.output, { id: run.runId, json: payloadJson(run.output) ?? null, text });
    return;
  }
  const why = failureText(run.failure) ?? safe(run.cancelReason);
  throw new CliError(`Run ${run.runId} ended ${RunStatus[run.status]}. ${why}`, EXIT.failed);
}
