import { RunStatus } from '@perdure/proto';
import { RpcError } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { CliError, EXIT } from '../exit-codes.js';
import { printOne } from '../output/print.js';
import { runStatusText } from '../output/statuses.js';
import { runIdOf, type Session, withRun, withSession } from '../session.js';
import { idsOf } from './ids.js';

/** What became of a run. */
export interface Done {
  /** For programs. */
  readonly status: string;
  /** For tables. */
  readonly text: string;
}

interface Action {
  readonly name: string;
  /** Completes "could not be …". */
  readonly done: string;
  readonly description: string;
  readonly takesReason: boolean;
  readonly act: (session: Session, id: string, reason: string) => Promise<Done>;
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
  for (const { name, done, description, takesReason, act } of actions) {
    const command = run.command(`${name} <id...>`).description(`${description}; - reads ids from stdin`);
    if (takesReason) command.option('-r, --reason <text>', 'recorded with the run', '');
    command.action((ids: string[], options: { reason?: string }, invoked: Command) =>
      withSession(invoked, async (session) => {
        await actOnRuns(session, await idsOf(ids), done, (id) => act(session, id, options.reason ?? ''));
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
      const { status, text } = await act(id);
      printOne(session.output, { id, json: { id, status }, text: `${id} ${text}` });
    } catch (error) {
      // One refusal must not keep the command from the other runs.
      if (!(error instanceof RpcError) || error.isTransient || ids.length === 1) throw error;
      process.stderr.write(`${pc.red('error')} ${error.message}\n`);
      refused = error;
    }
  }
  if (refused !== undefined) throw new CliError(`Some runs could not be ${done}; see the errors above.`, EXIT.refused);
}
