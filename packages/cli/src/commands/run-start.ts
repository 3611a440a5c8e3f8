import { readFileSync } from 'node:fs';
import type { Duration } from '@bufbuild/protobuf/wkt';
import { WorkflowIdReusePolicy } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import { type Command, Option } from 'commander';
import pc from 'picocolors';
import { v7 as newUuid } from 'uuid';
import { CliError, EXIT } from '../exit-codes.js';
import { printOne } from '../output/print.js';
import { withSession } from '../session.js';
import { countArgument, durationArgument, FULL_STACK, integerArgument, parseJson } from './arguments.js';
import { sender } from './run-messages.js';
import { showResult } from './run-result.js';

const REUSE_POLICIES = {
  allow: WorkflowIdReusePolicy.ALLOW,
  'allow-if-failed': WorkflowIdReusePolicy.ALLOW_IF_FAILED,
  reject: WorkflowIdReusePolicy.REJECT,
  'terminate-existing': WorkflowIdReusePolicy.TERMINATE_EXISTING,
} as const;

interface StartOptions {
  readonly taskQueue: string;
  readonly input?: string;
  readonly inputFile?: string;
  readonly workflowId?: string;
  readonly requestId?: string;
  readonly reusePolicy: keyof typeof REUSE_POLICIES;
  readonly priority?: number;
  readonly build?: string;
  readonly delay?: Duration;
  readonly runTimeout?: Duration;
  readonly executionTimeout?: Duration;
  readonly startTimeout?: Duration;
  readonly chainTimeout?: Duration;
  readonly maxLostLeases?: number;
  readonly signal?: string;
  readonly wait?: boolean;
  readonly fullStack?: boolean;
}

export function addStart(run: Command): void {
  run
    .command('start <type>')
    .description('start a run of a workflow')
    .requiredOption('-q, --task-queue <name>', 'task queue whose workers execute it')
    .option('-i, --input <json>', 'input as JSON')
    .option('--input-file <path>', 'file with the input as JSON; - for stdin')
    .option('--workflow-id <id>', 'your own id, unique among open runs')
    .option('--request-id <id>', 'starts with the same id start one run')
    .addOption(
      new Option('--reuse-policy <policy>', 'what to do when the workflow id was used before')
        .choices(Object.keys(REUSE_POLICIES))
        .default('allow'),
    )
    .option('--priority <n>', '-100 to 100, higher is claimed first', integerArgument)
    .option('--build <name>', 'build that the run is meant for')
    .option('--delay <duration>', 'wait before the first claim', durationArgument)
    .option('--run-timeout <duration>', 'fail it when it has not ended this long after its start', durationArgument)
    .option('--execution-timeout <duration>', 'fail it when one attempt takes longer', durationArgument)
    .option('--start-timeout <duration>', 'fail it when no worker has claimed it by then', durationArgument)
    .option(
      '--chain-timeout <duration>',
      'fail it, or a run that continues it, this long after its start',
      durationArgument,
    )
    .option(
      '--max-lost-leases <n>',
      'fail it after this many lost leases in a row, 1 to 1000; default 10',
      countArgument,
    )
    .option(
      '--signal <name=payload>',
      'signal the open run of --workflow-id, or start it and signal it; the payload is JSON',
    )
    .option('--wait', 'wait for its result')
    .option(...FULL_STACK)
    .action((type: string, options: StartOptions, command: Command) =>
      withSession(command, async (session) => {
        const input = readInput(options);
        const start = {
          namespace: session.namespace,
          workflowType: type,
          taskQueue: options.taskQueue,
          workflowId: options.workflowId ?? '',
          requestId: options.requestId ?? newUuid(),
          reusePolicy: REUSE_POLICIES[options.reusePolicy],
          priority: options.priority ?? 0,
          build: options.build ?? '',
          maxLostLeases: options.maxLostLeases ?? 0,
          ...(input === undefined ? {} : { input: devalueCodec.encode(input) }),
          ...(options.delay === undefined ? {} : { startDelay: options.delay }),
          ...(options.runTimeout === undefined ? {} : { runTimeout: options.runTimeout }),
          ...(options.executionTimeout === undefined ? {} : { executionTimeout: options.executionTimeout }),
          ...(options.startTimeout === undefined ? {} : { startTimeout: options.startTimeout }),
          ...(options.chainTimeout === undefined ? {} : { chainTimeout: options.chainTimeout }),
        };
        const started =
          options.signal === undefined
            ? await session.workflows.startWorkflow(start)
            : await session.workflows.signalWithStart({ start, sender: sender(), ...signalOf(options.signal) });
        if (options.wait === true) return showResult(session, started.runId, options.fullStack === true);
        const { runId, workflowId, created } = started;
        const text = created
          ? `Started run ${pc.bold(runId)}. Follow it with: perdure run watch ${runId}`
          : options.signal === undefined
            ? `Run ${pc.bold(runId)} was started by an equal earlier call.`
            : `Signalled run ${pc.bold(runId)}, which was open.`;
        printOne(session.output, { id: runId, json: { runId, workflowId, created }, text });
      }),
    );
}

/** `name` or `name=payload`. */
function signalOf(text: string) {
  const at = text.indexOf('=');
  if (at < 0) return { signalName: text };
  return {
    signalName: text.slice(0, at),
    signalPayload: devalueCodec.encode(parseJson(text.slice(at + 1), 'The payload of the signal')),
  };
}

function readInput({ input, inputFile }: StartOptions): unknown {
  if (input !== undefined && inputFile !== undefined) {
    throw new CliError('Give either --input or --input-file.', EXIT.usage);
  }
  const text = input ?? (inputFile === undefined ? undefined : readInputFile(inputFile));
  if (text === undefined) return undefined;
  return parseJson(text, 'The input');
}

function readInputFile(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'there is no such file' : code === 'EISDIR' ? 'it is a folder' : message;
    throw new CliError(`The input file '${path}' cannot be read: ${why}.`, EXIT.usage);
  }
}
