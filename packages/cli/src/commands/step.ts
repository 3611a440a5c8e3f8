import type { StepAttempt } from '@perdure/proto';
import type { Command } from 'commander';
import { printList, printOne } from '../output/print.js';
import { stepJson, stepListView, stepText } from '../output/step-view.js';
import { runIdOf, withSession } from '../session.js';
import { countArgument, FULL_STACK } from './arguments.js';
import { addStepEnds } from './step-ends.js';

export function addStepCommands(program: Command): void {
  const step = program.command('step').description('show the attempts of a step, and end steps by hand');
  addStepEnds(step);

  step
    .command('attempts <run> <step>')
    .description('show all attempts of one step, oldest first')
    .action((run: string, stepId: string, _: unknown, command: Command) =>
      withSession(command, async (session) => {
        const runId = await runIdOf(session, run);
        const { attempts } = await session.workflows.listStepAttempts({ namespace: session.namespace, runId, stepId });
        printList(session.output, attempts, stepListView(attempts));
      }),
    );

  step
    .command('get <run> <step>')
    .description('show one attempt with its payloads')
    .option('-a, --attempt <n>', 'from 1; 0 for the latest', countArgument, 0)
    .option(...FULL_STACK)
    .action((run: string, stepId: string, options: { attempt: number; fullStack?: boolean }, command: Command) =>
      withSession(command, async (session) => {
        const runId = await runIdOf(session, run);
        const { namespace } = session;
        const answer = await session.workflows.getStepAttempt({
          namespace,
          runId,
          stepId,
          attemptNumber: options.attempt,
        });
        const attempt = answer.attempt as StepAttempt;
        printOne(session.output, {
          id: attempt.stepId,
          json: stepJson(attempt),
          text: stepText(attempt, options.fullStack === true),
        });
      }),
    );
}
