/** Requests about pauses: of runs, of task queues and of workflow types. */
import type { PauseRunRequest, ResumeRunRequest } from '@perdure/proto';
import type { DispatchKind, PauseDispatch, ResumeDispatch, RunRef } from '@perdure/store';
import type { Checker } from './checker.js';
import { decodeRunRef } from './workflow-requests.js';

export function decodePauseRun(
  check: Checker,
  request: PauseRunRequest,
): { readonly ref: RunRef; readonly reason: string; readonly by: string } {
  return {
    ref: decodeRunRef(check, request),
    reason: check.text('reason', request.reason),
    by: check.optionalId('actor', request.actor),
  };
}

export function decodeResumeRun(
  check: Checker,
  request: ResumeRunRequest,
): { readonly ref: RunRef; readonly by: string } {
  return { ref: decodeRunRef(check, request), by: check.optionalId('actor', request.actor) };
}

const FIELDS: Readonly<Record<DispatchKind, string>> = { TASK_QUEUE: 'task_queue', WORKFLOW_TYPE: 'workflow_type' };

export function decodePauseDispatch(
  check: Checker,
  kind: DispatchKind,
  name: string,
  request: { readonly namespace: string; readonly reason: string; readonly actor: string },
): PauseDispatch {
  return {
    ...decodeResumeDispatch(check, kind, name, request),
    reason: check.text('reason', request.reason),
    pausedBy: check.optionalId('actor', request.actor),
  };
}

export function decodeResumeDispatch(
  check: Checker,
  kind: DispatchKind,
  name: string,
  request: { readonly namespace: string },
): ResumeDispatch {
  return { namespace: check.namespace('namespace', request.namespace), kind, name: check.id(FIELDS[kind], name) };
}
