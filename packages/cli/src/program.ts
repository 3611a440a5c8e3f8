import { VERSION } from '@perdure/server';
import { DEFAULT_ADDRESS } from '@perdure/worker-sdk';
import { Command, Option } from 'commander';
import { addAdminCommands } from './commands/admin.js';
import { addRunCommands } from './commands/run.js';
import { addServeCommands } from './commands/serve.js';
import { addStepCommands } from './commands/step.js';
import { OUTPUT_FORMATS } from './output/print.js';

/** The whole command line. */
export function buildProgram(): Command {
  const program = new Command('perdure')
    .description('Durable execution for TypeScript and PostgreSQL')
    .version(VERSION, '-V, --version')
    .option('--address <host:port>', `server's gRPC address (env PERDURE_ADDRESS; default ${DEFAULT_ADDRESS})`)
    .option('--namespace <name>', 'namespace (env PERDURE_NAMESPACE; default default)')
    .addOption(new Option('-o, --output <format>', 'how to print').choices([...OUTPUT_FORMATS]).default('table'))
    .showHelpAfterError('(add --help for what is possible)')
    .addHelpText(
      'after',
      '\nExit codes: 0 ok, 1 the run failed, 2 usage, 3 not found, 4 unavailable, 5 refused, 130 interrupted.',
    );
  addServeCommands(program);
  addRunCommands(program);
  addStepCommands(program);
  addAdminCommands(program);
  throwInsteadOfExit(program);
  return program;
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const subcommand of command.commands) throwInsteadOfExit(subcommand);
}
