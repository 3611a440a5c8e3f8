import { RunStatus } from '@perdure/proto';
import { RpcError } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { CliError, EXIT } from '../exit-codes.js';
import { printOne } from '../output/print.js';
import { runStatusText } from '../output/statuses.js';
import { withRun, withSession } from '../session.js';
import { idsOf } from './ids.js';

export function addActions(run: Command): void {
  const actions = [
    ['cancel', 'request that runs end; their code may clean up', 'cancelRun', 'cancelled'],
    ['terminate', 'end runs at once; their code gets no chance to clean up', 'terminateRun', 'terminated'],
  ] as const;
  for (const [name, description, method, done] of actions) {
    run
      .command(`${name} <id...>`)
      .description(`${description}; - reads ids from stdin`)
      .option('-r, --reason <text>', 'kept with the run', '')
      .action((ids: string[], options: { reason: string }, command: Command) =>
        withSession(command, async (session) => {
          let refused: RpcError | undefined;
          for (const id of await idsOf(ids)) {
            try {
              const { status } = await withRun(
                session,
                id,
                (ref): Promise<{ readonly status: RunStatus }> =>
                  session.workflows[method]({ ...ref, reason: options.reason }),
              );
              const requested = status !== RunStatus.CANCELLED && status !== RunStatus.TERMINATED;
              const text = `${id} ${runStatusText(status)}${requested ? ' (cancellation requested)' : ''}`;
              printOne(session.output, { id, json: { id, status: RunStatus[status] }, text });
            } catch (error) {
              // One refusal must not keep the command from the other runs.
              if (!(error instanceof RpcError) || error.isTransient || ids.length === 1) throw error;
              process.stderr.write(`${pc.red('error')} ${error.message}\n`);
              refused = error;
            }
          }
          if (refused !== undefined)
            throw new CliError(`Some runs could not be ${done}; see the errors above.`, EXIT.refused);
        }),
      );
  }
}
