/** Ends steps by hand. */
import { FailureReason } from '@perdure/proto';
import { devalueCodec } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import { v7 as newUuid } from 'uuid';
import { printOne } from '../output/print.js';
import { safe } from '../output/text.js';
import { type Session, withRun, withSession } from '../session.js';
import { parseJson } from './arguments.js';
import { sender } from './run-messages.js';

type Outcome = NonNullable<Parameters<Session['workflows']['endStep']>[0]['outcome']>;

const REASON = ['-r, --reason <text>', 'recorded with the step', ''] as const;

export function addStepEnds(step: Command): void {
  step
    .command('complete <run> <step>')
    .description('give a step a result by hand; when its run has failed, `run retry` continues with it')
    .option('--result <json>', 'what the step returns; default: nothing')
    .option(...REASON)
    .action((run: string, stepId: string, options: { result?: string; reason: string }, command: Command) => {
      const output =
        options.result === undefined ? {} : { output: devalueCodec.encode(parseJson(options.result, 'The result')) };
      return endStep(command, { run, stepId, reason: options.reason }, { case: 'completed', value: output });
    });
  step
    .command('fail <run> <step> <message>')
    .description('give a step an error by hand: no attempt follows')
    .option('--type <name>', 'name of the error', 'Error')
    .option('--code <code>', 'code of the error', '')
    .option(...REASON)
    .action(
      (
        run: string,
        stepId: string,
        message: string,
        { type, code, reason }: { type: string; code: string; reason: string },
        command: Command,
      ) => {
        const value = { type, message, code, reason: FailureReason.APPLICATION };
        return endStep(command, { run, stepId, reason }, { case: 'failed', value });
      },
    );
  step
    .command('skip <run> <step>')
    .description('skip a step by hand: its code is given undefined')
    .option(...REASON)
    .action((run: string, stepId: string, { reason }: { reason: string }, command: Command) =>
      endStep(command, { run, stepId, reason }, { case: 'skipped', value: true }),
    );
}

const DONE: Readonly<Record<Exclude<Outcome['case'], undefined>, readonly [status: string, text: string]>> = {
  completed: ['COMPLETED', 'completed'],
  failed: ['FAILED', 'failed'],
  skipped: ['SKIPPED', 'skipped'],
};

function endStep(
  command: Command,
  { run, stepId, reason }: { readonly run: string; readonly stepId: string; readonly reason: string },
  outcome: Extract<Outcome, { readonly case: string }>,
): Promise<void> {
  return withSession(command, async (session) => {
    const request = { stepId, reason, actor: sender(), requestId: newUuid(), outcome };
    const { runId, attemptNumber } = await withRun(session, run, (ref) =>
      session.workflows.endStep({ ...ref, ...request }),
    );
    const [status, done] = DONE[outcome.case];
    const text = `Step '${safe(stepId)}' of run ${runId} was ${done} by hand.`;
    printOne(session.output, { id: runId, json: { runId, stepId, attemptNumber, status }, text });
  });
}
