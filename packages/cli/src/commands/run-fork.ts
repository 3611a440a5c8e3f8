/** Starts runs from steps of other runs. */
import { devalueCodec } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import { v7 as newUuid } from 'uuid';
import { printOne } from '../output/print.js';
import { count, safe } from '../output/text.js';
import { withRun, withSession } from '../session.js';
import { parseJson } from './arguments.js';
import { sender } from './run-messages.js';

interface ForkOptions {
  readonly input?: string;
  readonly workflowId?: string;
  readonly reason: string;
}

export function addFork(run: Command): void {
  run
    .command('fork <id> <step>')
    .description('start another run from a step of a run: earlier steps keep their outcomes')
    .option('-i, --input <json>', 'input of the new run as JSON; default: the same')
    .option('-w, --workflow-id <id>', 'of the new run; default: that of the run with /fork-1 and so on after it')
    .option('-r, --reason <text>', 'recorded with the run', '')
    .action((id: string, stepId: string, options: ForkOptions, command: Command) =>
      withSession(command, async (session) => {
        const { input, workflowId = '', reason } = options;
        const request = {
          stepId,
          reason,
          actor: sender(),
          requestId: newUuid(),
          newWorkflowId: workflowId,
          ...(input === undefined ? {} : { input: { value: devalueCodec.encode(parseJson(input, 'The input')) } }),
        };
        const fork = await withRun(session, id, (ref) => session.workflows.forkRun({ ...ref, ...request }));
        const kept = `${count(fork.keptSteps, 'step')} ${fork.keptSteps === 1 ? 'keeps its outcome' : 'keep their outcomes'}`;
        const text = `${id} forked from step '${safe(stepId)}' as ${fork.runId}, workflow id ${safe(fork.workflowId)}; ${kept}`;
        const { runId, keptSteps } = fork;
        printOne(session.output, {
          id: runId,
          json: { id, newRunId: runId, workflowId: fork.workflowId, keptSteps },
          text,
        });
      }),
    );
}
