import { type DeleteRunRequest, RunStatus, type WorkflowService } from '@perdure/proto';
import type {
  CancelRun,
  CancelRunOutcome,
  DeleteRun,
  DeleteRunOutcome,
  PauseRunOutcome,
  ResumeRunOutcome,
  TerminateRun,
  TerminateRunOutcome,
} from '@perdure/store';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { decode } from '../rpc/decode/decode.js';
import { decodePauseRun, decodeResumeRun } from '../rpc/decode/pause-requests.js';
import { decodeActOnRun } from '../rpc/decode/workflow-requests.js';
import { runStatusNumber } from '../rpc/enums.js';
import { endedRun, runNotFound, wrongRunState } from '../rpc/outcomes.js';
import { answering } from './answering.js';
import { runIdOf } from './find-run.js';
import { followingChain } from './follow-chain.js';

type Request = Parameters<typeof decodeActOnRun>[1];

/** RPCs that cancel, terminate, pause, resume or delete a run, by its run id or its workflow id. */
export function runActions(
  context: ServerContext,
): Pick<Handlers<typeof WorkflowService>, 'cancelRun' | 'terminateRun' | 'pauseRun' | 'resumeRun' | 'deleteRun'> {
  const { commands } = context;
  const acting =
    <Outcome extends { readonly kind: string }, Answer>(
      submit: (command: CancelRun) => Promise<Outcome>,
      answer: (command: CancelRun, outcome: Outcome) => Answer,
    ) =>
    async (request: Request): Promise<Answer> => {
      const { ref, reason } = decode(context, (check) => decodeActOnRun(check, request));
      const { namespace } = ref;
      const named = await runIdOf(context, ref);
      const { runId, outcome } = await followingChain(context, named, (of) => submit({ namespace, runId: of, reason }));
      return answer({ namespace, runId, reason }, outcome);
    };
  return {
    cancelRun: acting(commands.cancelRun, runCancelled),
    terminateRun: acting(commands.terminateRun, runTerminated),
    async pauseRun(request) {
      const { ref, reason, by } = decode(context, (check) => decodePauseRun(check, request));
      const { namespace } = ref;
      const named = await runIdOf(context, ref);
      const { runId, outcome } = await followingChain(context, named, (of) =>
        commands.pauseRun({ namespace, runId: of, reason, by }),
      );
      return runPaused(runId, outcome);
    },
    async resumeRun(request) {
      const { ref, by } = decode(context, (check) => decodeResumeRun(check, request));
      const { namespace } = ref;
      const named = await runIdOf(context, ref);
      const { runId, outcome } = await followingChain(context, named, (of) =>
        commands.resumeRun({ namespace, runId: of, by }),
      );
      return runResumed(runId, outcome);
    },
    // By run id only: a repeated call must not delete the next older run of a workflow id.
    deleteRun: answering(
      context,
      (check, { namespace, runId }: DeleteRunRequest) => ({
        namespace: check.namespace('namespace', namespace),
        runId: check.uuid('run_id', runId),
      }),
      commands.deleteRun,
      runDeleted,
    ),
  };
}

function runCancelled({ runId }: CancelRun, outcome: CancelRunOutcome): { readonly status: RunStatus } {
  switch (outcome.kind) {
    case 'cancelled':
    case 'requested':
    case 'already_requested':
      return { status: runStatusNumber[outcome.status] };
    case 'wrong_state':
      throw wrongRunState(runId, 'cancelled', outcome);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function runTerminated({ runId }: TerminateRun, outcome: TerminateRunOutcome): { readonly status: RunStatus } {
  switch (outcome.kind) {
    case 'terminated':
    case 'already_terminated':
      return { status: RunStatus.TERMINATED };
    case 'wrong_state':
      throw wrongRunState(runId, 'terminated', outcome);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function runPaused(runId: string, outcome: PauseRunOutcome): { readonly status: RunStatus } {
  switch (outcome.kind) {
    case 'paused':
    case 'already_paused':
      return { status: runStatusNumber[outcome.status] };
    case 'run_closed':
      throw endedRun(runId, 'paused', outcome.status);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function runResumed(
  runId: string,
  outcome: ResumeRunOutcome,
): { readonly status: RunStatus; readonly resumed: boolean } {
  switch (outcome.kind) {
    case 'resumed':
    case 'not_paused':
      return { status: runStatusNumber[outcome.status], resumed: outcome.kind === 'resumed' };
    case 'run_closed':
      throw endedRun(runId, 'resumed', outcome.status);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}

function runDeleted({ runId }: DeleteRun, outcome: DeleteRunOutcome): Record<string, never> {
  switch (outcome.kind) {
    case 'deleted':
      return {};
    case 'wrong_state':
      throw wrongRunState(runId, 'deleted', outcome);
    case 'run_not_found':
      throw runNotFound(runId);
  }
}
