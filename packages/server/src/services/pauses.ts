import type { AdminService } from '@perdure/proto';
import {
  listDispatchPauses,
  type PauseDispatch,
  pauseDispatch,
  type ResumeDispatch,
  resumeDispatch,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import { decodePauseDispatch, decodeResumeDispatch } from '../rpc/decode/pause-requests.js';
import { dispatchPauseMessage } from '../rpc/encode/pauses.js';
import { namespaceNotFound } from '../rpc/outcomes.js';
import { checkNamespace } from './check-namespace.js';

/** RPCs that pause and resume task queues and workflow types. */
export function pauses(
  context: ServerContext,
): Pick<
  Handlers<typeof AdminService>,
  'pauseTaskQueue' | 'resumeTaskQueue' | 'pauseWorkflowType' | 'resumeWorkflowType' | 'listPauses'
> {
  const { db, reads, wakeups } = context;
  const pause = async (command: PauseDispatch) => {
    const { kind } = await pauseDispatch(db, command);
    if (kind === 'namespace_not_found') throw namespaceNotFound(command.namespace);
    return { paused: kind === 'paused' };
  };
  const resume = async (command: ResumeDispatch) => {
    const outcome = await resumeDispatch(db, command);
    if (outcome.kind === 'namespace_not_found') throw namespaceNotFound(command.namespace);
    if (outcome.kind !== 'resumed') return { resumed: false };
    // Nobody knows how many runs have waited: as many as there are slots may take one.
    for (const taskQueue of outcome.taskQueues) {
      wakeups.runnable({ namespace: command.namespace, taskQueue }, Number.MAX_SAFE_INTEGER);
    }
    return { resumed: true };
  };
  return {
    pauseTaskQueue: (request) =>
      pause(decode(context, (check) => decodePauseDispatch(check, 'TASK_QUEUE', request.taskQueue, request))),
    resumeTaskQueue: (request) =>
      resume(decode(context, (check) => decodeResumeDispatch(check, 'TASK_QUEUE', request.taskQueue, request))),
    pauseWorkflowType: (request) =>
      pause(decode(context, (check) => decodePauseDispatch(check, 'WORKFLOW_TYPE', request.workflowType, request))),
    resumeWorkflowType: (request) =>
      resume(decode(context, (check) => decodeResumeDispatch(check, 'WORKFLOW_TYPE', request.workflowType, request))),
    async listPauses(request, call) {
      const namespace = decode(context, (check) => check.namespace('namespace', request.namespace));
      const from = reads.for(call);
      const paused = await listDispatchPauses(from, namespace);
      if (paused.length === 0) await checkNamespace(from, namespace);
      return { pauses: paused.map(dispatchPauseMessage) };
    },
  };
}
