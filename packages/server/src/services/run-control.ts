import {
  type DismissRunRequest,
  type EndStepRequest,
  type ForkRunRequest,
  type RestartRunRequest,
  type RetryRunRequest,
  RunStatus,
  type WorkflowService,
} from '@perdure/proto';
import type {
  DismissRun,
  DismissRunOutcome,
  EndStep,
  EndStepOutcome,
  ForkRun,
  ForkRunOutcome,
  RestartRun,
  RestartRunOutcome,
  RetryRun,
  RetryRunOutcome,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import { invalidArgument } from '../call/rpc-error.js';
import type { ServerContext } from '../context.js';
import {
  compensatedRun,
  newWorkflowIdInUse,
  notDismissible,
  notRetriable,
  noUseForOutcome,
  stepEnded,
  stepNotEndable,
  workflowIdInUse,
} from '../rpc/control-outcomes.js';
import { decodeEndStep, decodeForkRun, decodeRunAction } from '../rpc/decode/control-requests.js';
import { decode } from '../rpc/decode/decode.js';
import { runStatusNumber } from '../rpc/enums.js';
import { runNotFound, stepNotFound } from '../rpc/outcomes.js';
import { runIdOf } from './find-run.js';

/** RPCs with which a person lets a run continue, or happen again, or has dealt with its failure. */
export function runControl(
  context: ServerContext,
): Pick<Handlers<typeof WorkflowService>, 'retryRun' | 'restartRun' | 'forkRun' | 'endStep' | 'dismissRun'> {
  const { commands } = context;
  return {
    async retryRun(request: RetryRunRequest) {
      const { ref, action } = decode(context, (check) => decodeRunAction(check, request));
      const command = { ...action, namespace: ref.namespace, runId: await runIdOf(context, ref) };
      return runRetried(command, await commands.retryRun(command));
    },

    async dismissRun(request: DismissRunRequest) {
      const { ref, action } = decode(context, (check) => decodeRunAction(check, request));
      const command = { ...action, namespace: ref.namespace, runId: await runIdOf(context, ref) };
      return runDismissed(command, await commands.dismissRun(command));
    },

    async restartRun(request: RestartRunRequest) {
      const { ref, action, workflowId } = decode(context, (check) => ({
        ...decodeRunAction(check, request),
        workflowId: check.optionalId('new_workflow_id', request.newWorkflowId) || null,
      }));
      const command = { ...action, namespace: ref.namespace, runId: await runIdOf(context, ref), workflowId };
      return runRestarted(command, await commands.restartRun(command));
    },

    async forkRun(request: ForkRunRequest) {
      const { ref, action, stepId, workflowId, input } = decode(context, (check) => decodeForkRun(check, request));
      const { namespace } = ref;
      const command = { ...action, namespace, runId: await runIdOf(context, ref), stepId, workflowId, input };
      return runForked(command, await commands.forkRun(command));
    },

    async endStep(request: EndStepRequest) {
      const { ref, action, stepId, outcome } = decode(context, (check) => decodeEndStep(check, request));
      const { namespace } = ref;
      const command = { ...action, namespace, runId: await runIdOf(context, ref), stepId, outcome };
      return stepEndedByHand(command, await commands.endStep(command));
    },
  };
}

function runRetried(
  { runId }: RetryRun,
  outcome: RetryRunOutcome,
): { readonly runId: string; readonly status: RunStatus } {
  switch (outcome.kind) {
    case 'retried':
      return { runId, status: RunStatus.PENDING };
    case 'already_retried':
      return { runId, status: runStatusNumber[outcome.status] };
    case 'wrong_state':
      throw notRetriable(runId, outcome);
    case 'compensated':
      throw compensatedRun(runId, 'retried', outcome.status);
    case 'workflow_id_taken':
      throw workflowIdInUse(runId, outcome.runId);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function runDismissed(
  { runId }: DismissRun,
  outcome: DismissRunOutcome,
): { readonly runId: string; readonly dismissed: boolean } {
  switch (outcome.kind) {
    case 'dismissed':
    case 'already_dismissed':
      return { runId, dismissed: outcome.kind === 'dismissed' };
    case 'wrong_state':
      throw notDismissible(runId, outcome);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function runRestarted({ runId }: RestartRun, outcome: RestartRunOutcome) {
  switch (outcome.kind) {
    case 'restarted':
    case 'already_restarted':
      return { runId: outcome.runId, workflowId: outcome.workflowId, created: outcome.kind === 'restarted' };
    case 'workflow_id_taken':
      throw newWorkflowIdInUse(runId, 'restarted', outcome.workflowId, outcome.runId);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function runForked({ runId, stepId }: ForkRun, outcome: ForkRunOutcome) {
  switch (outcome.kind) {
    case 'forked':
    case 'already_forked': {
      const { workflowId, keptSteps } = outcome;
      return { runId: outcome.runId, workflowId, keptSteps, created: outcome.kind === 'forked' };
    }
    case 'run_not_found':
      throw runNotFound(runId);
    case 'step_not_found':
      throw stepNotFound(runId, stepId, 0);
    case 'wrong_state':
      throw compensatedRun(runId, 'forked', outcome.status);
    case 'workflow_id_taken':
      throw newWorkflowIdInUse(runId, 'forked', outcome.workflowId, outcome.runId);
  }
}

function stepEndedByHand({ runId, stepId }: EndStep, outcome: EndStepOutcome) {
  switch (outcome.kind) {
    case 'ended':
    case 'already_ended':
      return { runId, attemptNumber: outcome.attemptNumber, alreadyEnded: outcome.kind === 'already_ended' };
    case 'run_not_found':
      throw runNotFound(runId);
    case 'step_not_found':
      throw stepNotFound(runId, stepId, 0);
    case 'wrong_state':
      throw noUseForOutcome(runId, outcome);
    case 'step_ended':
      throw stepEnded(runId, stepId, outcome.status);
    case 'taken_back':
      throw stepNotEndable(runId, stepId, 'it was taken back by a retry of the run, or a retry would take it back.');
    case 'wrong_kind':
      throw stepNotEndable(runId, stepId, 'it receives the updates of the run. Send an update.');
    case 'no_result':
      throw invalidArgument([
        { field: 'completed.output', description: 'must be absent, because the step is a timer and has no result.' },
      ]);
  }
}
