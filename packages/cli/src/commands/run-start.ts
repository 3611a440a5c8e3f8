import { readFileSync } from 'node:fs';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { DurationSchema } from '@bufbuild/protobuf/wkt';
import { devalueCodec } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import pc from 'picocolors';
import { v7 as newUuid } from 'uuid';
import { CliError, EXIT } from '../exit-codes.js';
import { printOne } from '../output/print.js';
import { withSession } from '../session.js';
import { durationArgument, integerArgument } from './arguments.js';
import { showResult } from './run-result.js';

type DurationInit = MessageInitShape<typeof DurationSchema>;

interface StartOptions {
  readonly taskQueue: string;
  readonly input?: string;
  readonly inputFile?: string;
  readonly workflowId?: string;
  readonly requestId?: string;
  readonly priority?: number;
  readonly build?: string;
  readonly delay?: DurationInit;
  readonly runTimeout?: DurationInit;
  readonly executionTimeout?: DurationInit;
  readonly wait?: boolean;
}

export function addStart(run: Command): void {
  run
    .command('start <type>')
    .description('start a run of a workflow')
    .requiredOption('-q, --task-queue <name>', 'queue whose workers execute it')
    .option('-i, --input <json>', 'input as JSON')
    .option('--input-file <path>', 'file with the input as JSON; - for stdin')
    .option('--workflow-id <id>', 'your own id, unique among open runs')
    .option('--request-id <id>', 'equal ids are one start')
    .option('--priority <n>', '-100 to 100, higher is claimed first', integerArgument)
    .option('--build <name>', 'build that the run is meant for')
    .option('--delay <duration>', 'wait before the first claim', durationArgument)
    .option('--run-timeout <duration>', 'fail it when it has not ended by then', durationArgument)
    .option('--execution-timeout <duration>', 'fail it when one attempt takes longer', durationArgument)
    .option('--wait', 'wait for its result')
    .action((type: string, options: StartOptions, command: Command) =>
      withSession(command, async (session) => {
        const input = readInput(options);
        const started = await session.workflows.startWorkflow({
          namespace: session.namespace,
          workflowType: type,
          taskQueue: options.taskQueue,
          workflowId: options.workflowId ?? '',
          requestId: options.requestId ?? newUuid(),
          priority: options.priority ?? 0,
          version: options.build ?? '',
          ...(input === undefined ? {} : { input: devalueCodec.encode(input) }),
          ...(options.delay === undefined ? {} : { startDelay: options.delay }),
          ...(options.runTimeout === undefined ? {} : { runTimeout: options.runTimeout }),
          ...(options.executionTimeout === undefined ? {} : { executionTimeout: options.executionTimeout }),
        });
        if (options.wait === true) return showResult(session, started.runId);
        const { runId, workflowId, created } = started;
        const text = created
          ? `Started run ${pc.bold(runId)}. Follow it with: perdure run watch ${runId}`
          : `Run ${pc.bold(runId)} was started by an equal earlier call.`;
        printOne(session.output, { id: runId, json: { runId, workflowId, created }, text });
      }),
    );
}

function readInput({ input, inputFile }: StartOptions): unknown {
  if (input !== undefined && inputFile !== undefined) {
    throw new CliError('Give either --input or --input-file.', EXIT.usage);
  }
  const text = input ?? (inputFile === undefined ? undefined : readFileSync(inputFile === '-' ? 0 : inputFile, 'utf8'));
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new CliError(`The input is not JSON: ${why}. A text needs quotes: --input '"hello"'.`, EXIT.usage);
  }
}
