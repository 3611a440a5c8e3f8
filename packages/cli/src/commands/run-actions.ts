import { RunStatus } from '@perdure/proto';
import { RpcError } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { v7 as newUuid } from 'uuid';
import { CliError, EXIT } from '../exit-codes.js';
import { printOne } from '../output/print.js';
import { runStatusText } from '../output/statuses.js';
import { runIdOf, type Session, withRun, withSession } from '../session.js';
import { idsOf } from './ids.js';
import { sender } from './run-messages.js';

/** What became of a run. */
export interface Done {
  /** For programs. */
  readonly status: string;
  /** For tables. */
  readonly text: string;
  /** The run that was started. */
  readonly newRunId?: string;
}

interface Action {
  readonly name: string;
  /** Completes "could not be …". */
  readonly done: string;
  readonly description: string;
  readonly takesReason: boolean;
  readonly takesWorkflowId?: true;
  readonly act: (session: Session, id: string, reason: string, newWorkflowId: string) => Promise<Done>;
}

const actions: readonly Action[] = [
  {
    name: 'cancel',
    done: 'cancelled',
    description: 'request that runs end; their code may clean up',
    takesReason: true,
    act: async (session, id, reason) =>
      doneBy(await withRun(session, id, (ref) => session.workflows.cancelRun({ ...ref, reason }))),
  },
  {
    name: 'terminate',
    done: 'terminated',
    description: 'end runs immediately; their code cannot clean up',
    takesReason: true,
    act: async (session, id, reason) =>
      doneBy(await withRun(session, id, (ref) => session.workflows.terminateRun({ ...ref, reason }))),
  },
  {
    name: 'retry',
    done: 'retried',
    description: 'continue ended runs from the step that failed, or from where they were cancelled or terminated',
    takesReason: true,
    act: async (session, id, reason) => {
      const requestId = newUuid();
      const answer = await withRun(session, id, (ref) =>
        session.workflows.retryRun({ ...ref, reason, actor: sender(), requestId }),
      );
      return { status: RunStatus[answer.status], text: `retried, ${runStatusText(answer.status)}` };
    },
  },
  {
    name: 'dismiss',
    done: 'dismissed',
    description: 'take failed runs from the dead letters: they were dealt with in another way',
    takesReason: true,
    act: async (session, id, reason) => {
      const action = { reason, actor: sender(), requestId: newUuid() };
      const { dismissed } = await withRun(session, id, (ref) => session.workflows.dismissRun({ ...ref, ...action }));
      return { status: RunStatus[RunStatus.FAILED], text: dismissed ? 'dismissed' : 'had been dealt with before' };
    },
  },
  {
    name: 'restart',
    done: 'restarted',
    description: 'start other runs with the same input, from the start',
    takesReason: true,
    takesWorkflowId: true,
    act: async (session, id, reason, newWorkflowId) => {
      const action = { reason, actor: sender(), requestId: newUuid(), newWorkflowId };
      const { runId } = await withRun(session, id, (ref) => session.workflows.restartRun({ ...ref, ...action }));
      return { status: RunStatus[RunStatus.PENDING], text: `restarted as ${runId}`, newRunId: runId };
    },
  },
  {
    name: 'delete',
    done: 'deleted',
    description: 'delete ended runs with their steps and payloads permanently',
    takesReason: false,
    act: async (session, id) => {
      const { namespace, workflows } = session;
      await workflows.deleteRun({ namespace, runId: await runIdOf(session, id) });
      return { status: 'DELETED', text: 'deleted' };
    },
  },
];

function doneBy({ status }: { readonly status: RunStatus }): Done {
  const asked = status !== RunStatus.CANCELLED && status !== RunStatus.TERMINATED;
  return { status: RunStatus[status], text: `${runStatusText(status)}${asked ? ' (cancellation requested)' : ''}` };
}

export function addActions(run: Command): void {
  for (const { name, done, description, takesReason, takesWorkflowId, act } of actions) {
    const command = run.command(`${name} <id...>`).description(`${description}; - reads ids from stdin`);
    if (takesReason) command.option('-r, --reason <text>', 'recorded with the run', '');
    if (takesWorkflowId) command.option('-w, --workflow-id <id>', 'of the new run; default: the same');
    command.action((ids: string[], options: { reason?: string; workflowId?: string }, invoked: Command) =>
      withSession(invoked, async (session) => {
        await actOnRuns(session, await idsOf(ids), done, (id) =>
          act(session, id, options.reason ?? '', options.workflowId ?? ''),
        );
      }),
    );
  }
}

/** @param done completes "could not be …" */
export async function actOnRuns(
  session: Session,
  ids: readonly string[],
  done: string,
  act: (id: string) => Promise<Done>,
): Promise<void> {
  let refused: RpcError | undefined;
  for (const id of ids) {
    try {
      const { status, text, newRunId } = await act(id);
      const json = { id, status, ...(newRunId === undefined ? {} : { newRunId }) };
      printOne(session.output, { id: newRunId ?? id, json, text: `${id} ${text}` });
    } catch (error) {
      // One refusal must not keep the command from the other runs.
      if (!(error instanceof RpcError) || error.isTransient || ids.length === 1) throw error;
      process.stderr.write(`${pc.red('error')} ${error.message}\n`);
      refused = error;
    }
  }
  if (refused !== undefined) throw new CliError(`Some runs could not be ${done}; see the errors above.`, EXIT.refused);
}
