import type { Command } from 'commander';
import { CliError, EXIT } from '../exit-codes.js';

/** `perdure help run start` shows what `perdure run start --help` shows. */
export function addHelpCommand(program: Command): void {
  program
    .helpCommand(false)
    .command('help [command...]')
    .description('show the help of a command')
    .action((path: string[]) => {
      let found = program;
      for (const name of path) {
        const next = found.commands.find((command) => command.name() === name || command.aliases().includes(name));
        if (next === undefined) {
          const known = found.commands.map((command) => command.name()).join(', ');
          throw new CliError(`Unknown command '${path.join(' ')}'; expected one of: ${known}.`, EXIT.usage);
        }
        found = next;
      }
      found.outputHelp();
    });
}
