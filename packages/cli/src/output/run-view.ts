import { toJson } from '@bufbuild/protobuf';
import { RunStatus, type WorkflowRun, WorkflowRunSchema } from '@perdure/proto';
import type { ListView } from './print.js';
import { fieldsText, safe } from './print.js';
import {
  betweenMs,
  failureLine,
  failureText,
  payloadJson,
  payloadText,
  runStatusText,
  spanText,
  timeText,
} from './values.js';

/** A run for `-o json`: the API's JSON, with payloads decoded. */
export function runJson(run: WorkflowRun): unknown {
  const json = toJson(WorkflowRunSchema, run) as Record<string, unknown>;
  return {
    ...json,
    status: RunStatus[run.status],
    ...(run.input === undefined ? {} : { input: payloadJson(run.input) }),
    ...(run.output === undefined ? {} : { output: payloadJson(run.output) }),
  };
}

export const runListView: ListView<WorkflowRun> = {
  columns: [
    { title: 'RUN', value: (run) => run.runId },
    { title: 'WORKFLOW ID', value: (run) => (run.workflowId === run.runId ? '' : safe(run.workflowId)) },
    { title: 'TYPE', value: (run) => safe(run.workflowType) },
    { title: 'QUEUE', value: (run) => safe(run.taskQueue) },
    { title: 'STATUS', value: (run) => runStatusText(run.status) },
    { title: 'CREATED', value: (run) => timeText(run.createdAt) },
    { title: 'TOOK', align: 'right', value: (run) => spanText(betweenMs(run.createdAt, run.finishedAt)) },
    { title: 'ATTEMPT', align: 'right', wide: true, value: (run) => String(run.attempt) },
    { title: 'VERSION', wide: true, value: (run) => safe(run.version) },
    { title: 'WORKER', wide: true, value: (run) => run.lockedBy },
    { title: 'ERROR', wide: true, value: (run) => failureLine(run.failure) },
  ],
  id: (run) => run.runId,
  json: runJson,
  empty: 'No run matches.',
};

export function runText(run: WorkflowRun): string {
  return fieldsText([
    ['run', run.runId],
    ['workflow id', safe(run.workflowId)],
    ['type', safe(run.workflowType)],
    ['queue', safe(run.taskQueue)],
    ['namespace', run.namespace],
    ['version', safe(run.version)],
    ['status', runStatusText(run.status)],
    ['attempt', run.attempt > 1 ? String(run.attempt) : undefined],
    ['priority', run.priority === 0 ? undefined : String(run.priority)],
    ['created', timeText(run.createdAt)],
    ['started', timeText(run.startedAt)],
    ['wakes', timeText(run.wakeAt)],
    ['finished', timeText(run.finishedAt)],
    ['took', spanText(betweenMs(run.createdAt, run.finishedAt))],
    ['cancel asked', timeText(run.cancelRequestedAt)],
    ['cancel reason', safe(run.cancelReason)],
    ['input', payloadText(run.input)],
    ['output', payloadText(run.output)],
    [run.status === RunStatus.FAILED ? 'error' : 'last error', failureText(run.failure)],
  ]);
}
