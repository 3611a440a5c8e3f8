import { DEFAULT_ADDRESS } from '@perdure/worker-sdk';
import { Command, Option } from 'commander';
import { addBulkCommands } from './commands/bulk.js';
import { addCompletionCommand } from './commands/completion.js';
import { addDoctorCommand } from './commands/doctor.js';
import { addEventCommands } from './commands/event.js';
import { addHelpCommand } from './commands/help.js';
import { addInit } from './commands/init.js';
import { addNamespaceCommands } from './commands/namespace.js';
import { addPromiseCommands } from './commands/promise.js';
import { addQueueCommands } from './commands/queue.js';
import { addRunCommands } from './commands/run.js';
import { addServeCommands } from './commands/serve.js';
import { addStepCommands } from './commands/step.js';
import { addVersionCommand } from './commands/version.js';
import { addWorkerCommands } from './commands/worker.js';
import { addWorkflowCommands } from './commands/workflow.js';
import { OUTPUT_FORMATS } from './output/print.js';
import { VERSION } from './version.js';

/** Commands that do not talk to a server; the options for that would only confuse. */
const WITHOUT_SERVER = ['init', 'dev', 'server', 'reaper', 'migrate', 'completion', 'help'];

/** The whole command line. */
export function buildProgram(): Command {
  const program = new Command('perdure')
    .description('Durable execution for TypeScript and PostgreSQL')
    .version(VERSION, '-V, --version')
    .option('--address <host:port>', `server's gRPC address (env PERDURE_ADDRESS; default ${DEFAULT_ADDRESS})`)
    .option('--namespace <name>', 'namespace (env PERDURE_NAMESPACE; default default)')
    .addOption(new Option('-o, --output <format>', 'how to print').choices([...OUTPUT_FORMATS]).default('table'))
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(run with --help for usage)')
    .addHelpText(
      'after',
      '\nExit codes: 0 ok, 1 the run or a check failed, 2 usage, 3 not found, 4 unavailable, 5 refused, 130 interrupted.',
    );
  addServeCommands(program);
  addInit(program);
  addRunCommands(program);
  addBulkCommands(program);
  addStepCommands(program);
  addEventCommands(program);
  addPromiseCommands(program);
  addQueueCommands(program);
  addWorkflowCommands(program);
  addWorkerCommands(program);
  addNamespaceCommands(program);
  addDoctorCommand(program);
  addVersionCommand(program, VERSION);
  addCompletionCommand(program);
  addHelpCommand(program);
  for (const command of program.commands) {
    if (WITHOUT_SERVER.includes(command.name())) command.configureHelp({ showGlobalOptions: false });
  }
  throwInsteadOfExit(program);
  return program;
}

function throwInsteadOfExit(command: Command): void {
  command.exitOverride();
  for (const subcommand of command.commands) throwInsteadOfExit(subcommand);
}
