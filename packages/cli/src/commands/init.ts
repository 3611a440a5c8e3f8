import type { Command } from 'commander';
import { addToProject, ProjectError } from 'create-perdure';
import pc from 'picocolors';
import { CliError, EXIT } from '../exit-codes.js';
import { fileFailure } from '../file-failure.js';
import { write } from '../output/print.js';

export function addInit(program: Command): void {
  program
    .command('init [folder]')
    .description('add a workflow, a worker and a test to a project; nothing that exists is overwritten')
    .action((folder = '.') => {
      try {
        for (const { what, action, note } of addToProject(folder)) {
          write(
            `${action === 'kept' ? pc.yellow('kept ') : pc.green(action)} ${what}${note === undefined ? '' : pc.dim(` (${note})`)}`,
          );
        }
      } catch (error) {
        if (error instanceof ProjectError) throw new CliError(error.message, EXIT.usage);
        throw fileFailure(error) ?? error;
      }
      write('\nNext: npm install, then npm run dev and npm test.');
    });
}
