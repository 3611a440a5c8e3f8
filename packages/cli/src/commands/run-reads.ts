/** Looks at single runs. */
import type { RunPause, StepAttempt, WorkflowRun } from '@perdure/proto';
import type { Command } from 'commander';
import { describeJson, describeText } from '../output/describe-view.js';
import { failureChain } from '../output/failures.js';
import { pauseLine } from '../output/pause-view.js';
import { hint, isTable, printList, printOne } from '../output/print.js';
import { attemptsText, runJson, runText } from '../output/run-view.js';
import { hasUncounted, stepListView } from '../output/step-view.js';
import { findRun, runIdOf, type Session, withRun, withSession } from '../session.js';
import { countArgument, FULL_STACK } from './arguments.js';
import { idsOf } from './ids.js';
import { repeatedly, watchable } from './repeat.js';
import { showResult, watchRun } from './run-result.js';
import { showTree } from './run-tree.js';
import { WorkerNames } from './worker-names.js';

interface ReadOptions {
  readonly watch?: boolean;
  readonly payloads?: boolean;
  readonly fullStack?: boolean;
}

interface TreeOptions {
  readonly watch?: boolean;
  readonly maxChildren: number;
}

export function addReads(run: Command): void {
  run
    .command('get <id...>')
    .description('show runs with input and output; - reads ids from stdin')
    .option(...FULL_STACK)
    .action((ids: string[], options: ReadOptions, command: Command) =>
      withSession(command, async (session) => {
        for (const id of await idsOf(ids)) {
          const got = await findRun(session, id);
          printOne(session.output, {
            id: got.runId,
            json: runJson(got),
            text: runText(got, options.fullStack === true),
          });
        }
      }),
    );

  watchable(run.command('describe <id>'))
    .description('show where a run is, why it is waiting, and what to do')
    .option(...FULL_STACK)
    .action((id: string, options: ReadOptions, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => {
          const described = await withRun(session, id, (ref) => session.workflows.describeRun(ref));
          printOne(session.output, {
            id: described.run?.runId ?? '',
            json: describeJson(described),
            text: describeText(described, options.fullStack === true),
          });
        }),
      ),
    );

  watchable(run.command('history <id>'))
    .description('show every attempt of every step')
    .option('--payloads', 'with outputs and heartbeat details; needs -o json or jsonl')
    .action((id: string, options: ReadOptions, command: Command) =>
      withSession(command, (session) => repeatedly(options, () => showHistory(session, id, options))),
    );

  watchable(run.command('tree <id>'))
    .description('show a run with its children, and theirs')
    .option('--max-children <n>', 'show at most n children of each run, 1 to 1,000', countArgument, 50)
    .action((id: string, options: TreeOptions, command: Command) =>
      withSession(command, (session) => repeatedly(options, () => showTree(session, id, options.maxChildren))),
    );

  run
    .command('watch <id>')
    .description('follow a run until it has ended')
    .option(...FULL_STACK)
    .action((id: string, options: ReadOptions, command: Command) =>
      withSession(command, (session) => watchRun(session, id, options.fullStack === true)),
    );

  run
    .command('result <id>')
    .description('wait for a run to end and print its output')
    .option(...FULL_STACK)
    .action((id: string, options: ReadOptions, command: Command) =>
      withSession(command, async (session) =>
        showResult(session, await runIdOf(session, id), options.fullStack === true),
      ),
    );
}

async function showHistory(session: Session, id: string, { payloads }: ReadOptions): Promise<void> {
  const { output } = session;
  const run = await findRun(session, id);
  const { steps, pauses } = await readHistory(session, run.runId, payloads === true && !isTable(output));
  const names = new WorkerNames(session);
  if (output === 'wide') await names.load(steps.map(({ workerId }) => workerId));
  printList(output, steps, stepListView(steps, names.of));
  if (!isTable(output)) return;
  for (const note of [...pauses.map(pauseLine), ...notesOf(run, steps, payloads === true)]) hint(note);
}

/** What a table cannot show. */
function notesOf(run: WorkflowRun, steps: readonly StepAttempt[], payloads: boolean): string[] {
  return [
    ...(run.attempt > 1 ? [`The run is in attempt ${attemptsText(run)}.`] : []),
    ...(run.retries > 0 && run.failure !== undefined
      ? [`Its last failed attempt ended with ${failureChain(run.failure)}.`]
      : []),
    ...(hasUncounted(steps)
      ? [
          'In brackets: counted attempts. Those lost with their worker, or from before a retry of the run, do not count.',
        ]
      : []),
    ...(payloads ? ['--payloads shows nothing in tables; add -o json or -o jsonl.'] : []),
  ];
}

async function readHistory(session: Session, runId: string, includePayloads: boolean) {
  const steps: StepAttempt[] = [];
  const pauses: RunPause[] = [];
  let pageToken = '';
  do {
    const page = await session.workflows.getHistory({
      namespace: session.namespace,
      runId,
      includePayloads,
      pageSize: includePayloads ? 100 : 1_000,
      pageToken,
    });
    steps.push(...page.steps);
    pauses.push(...page.pauses);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return { steps, pauses };
}
