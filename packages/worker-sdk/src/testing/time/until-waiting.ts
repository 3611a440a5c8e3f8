import { RunStatus, StepKind, StepStatus, type WorkflowRun } from '@perdure/proto';
import type { ClientContext } from '../../client/await-result.js';
import { shown } from '../../text.js';

const OPEN_WAITS: ReadonlySet<StepKind> = new Set([
  StepKind.SLEEP,
  StepKind.SIGNAL,
  StepKind.EVENT,
  StepKind.PROMISE,
  StepKind.CHILD,
]);
const ENDED: ReadonlySet<RunStatus> = new Set([
  RunStatus.COMPLETED,
  RunStatus.FAILED,
  RunStatus.CANCELLED,
  RunStatus.TERMINATED,
]);

/**
 * Whether a run waits, for anything or for something of this name; for a run that was continued as another one, whether that one does.
 *
 * @param name of the step that waits: of a sleep, a signal, an event, a promise or a child
 * @returns undefined: not yet
 * @throws {Error} when the run has ended instead
 */
export async function isWaiting(
  { service, namespace }: ClientContext,
  firstRunId: string,
  name: string | undefined,
): Promise<true | undefined> {
  const run = await openRun(service, namespace, firstRunId);
  const { runId, status } = run;
  if (ENDED.has(status)) {
    const what = name === undefined ? 'Waited for' : `Waited until run ${runId} waits for ${shown(name)}, but`;
    const which = name === undefined ? ` run ${runId} to wait, but it` : ' it';
    throw new Error(
      `${what}${which} has ended as ${RunStatus[status]}: ${run.failure?.message ?? 'without an error'}.`,
    );
  }
  if (name === undefined) return status === RunStatus.SLEEPING || status === RunStatus.WAITING ? true : undefined;
  let pageToken = '';
  do {
    const page = await service.getHistory({ namespace, runId, pageSize: 1_000, pageToken });
    for (const { kind, status: of, isLatest, stepId } of page.steps) {
      if (!isLatest || of !== StepStatus.RUNNING || !OPEN_WAITS.has(kind)) continue;
      if (stepId === name || stepId.replace(/#\d+$/, '') === name) return true;
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return undefined;
}

/** The last run of the chain. */
async function openRun(service: ClientContext['service'], namespace: string, firstRunId: string): Promise<WorkflowRun> {
  for (let runId = firstRunId; ; ) {
    const { run } = await service.getRun({ namespace, runId });
    if (run === undefined) throw new Error(`The server has not answered about run ${runId}.`);
    if (run.status !== RunStatus.CONTINUED) return run;
    runId = run.nextRunId;
  }
}
