import type { MessageInitShape } from '@bufbuild/protobuf';
import type { StartWorkflowResponse, StartWorkflowsResponse_OutcomeSchema, WorkflowService } from '@perdure/proto';
import { DataError, type StartRun, type StartRunOutcome } from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import { RpcError } from '../call/rpc-error.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import { decodeExecute, decodeStart, decodeStarts } from '../rpc/decode/workflow-requests.js';
import { runEndFields } from '../rpc/encode/model.js';
import { namespaceNotFound, valueRefused, workflowAlreadyExists } from '../rpc/outcomes.js';
import { answering } from './answering.js';
import { awaitRun } from './await-run.js';

/** RPCs that start runs: one, one with its result, many. */
export function runStarts(
  context: ServerContext,
): Pick<Handlers<typeof WorkflowService>, 'startWorkflow' | 'executeWorkflow' | 'startWorkflows'> {
  const { commands } = context;
  return {
    startWorkflow: answering(context, decodeStart, commands.startRun, runStarted),

    async executeWorkflow(request, call) {
      const { start, waitMs } = decode(context, (check) => decodeExecute(check, request));
      const started = runStarted(start, await commands.startRun(start));
      const ref = { namespace: start.namespace, runId: started.runId, workflowId: null };
      const { end } = await awaitRun(context, ref, waitMs, call);
      return { ...started, ended: end !== null, ...(end === null ? {} : runEndFields(end)) };
    },

    async startWorkflows(request) {
      const starts = decode(context, (check) => decodeStarts(check, request));
      const outcomes = commands.startRuns(starts);
      return { outcomes: await Promise.all(starts.map((start, index) => startOutcome(start, outcomes[index]))) };
    },
  };
}

type Started = Required<Pick<StartWorkflowResponse, 'runId' | 'workflowId' | 'created'>>;

function runStarted(command: StartRun, outcome: StartRunOutcome): Started {
  switch (outcome.kind) {
    case 'started':
      return { runId: outcome.runId, workflowId: command.workflowId, created: true };
    case 'existing':
      return { runId: outcome.runId, workflowId: outcome.workflowId, created: false };
    case 'already_exists':
      throw workflowAlreadyExists(command.workflowId, outcome);
    case 'namespace_not_found':
      throw namespaceNotFound(command.namespace);
  }
}

/** The outcome of one start: its refusal does not affect the others. */
async function startOutcome(
  command: StartRun,
  outcome: Promise<StartRunOutcome> | undefined,
): Promise<MessageInitShape<typeof StartWorkflowsResponse_OutcomeSchema>> {
  try {
    return { result: { case: 'started', value: runStarted(command, (await outcome) as StartRunOutcome) } };
  } catch (error) {
    const refusal = error instanceof DataError ? valueRefused(error) : error;
    if (!(refusal instanceof RpcError)) throw error;
    const { reason, message, metadata } = refusal;
    return { result: { case: 'error', value: { reason, message, existingRunId: metadata.run_id ?? '' } } };
  }
}
