import type { Timestamp } from '@bufbuild/protobuf/wkt';
import { RunStatus, type StepAttempt, WaitReason, type WorkflowRun } from '@perdure/proto';
import type { Command } from 'commander';
import pc from 'picocolors';
import { CliError, EXIT } from '../exit-codes.js';
import { printList, printOne, safe } from '../output/print.js';
import { runJson, runListView, runText } from '../output/run-view.js';
import { stepJson, stepListView } from '../output/step-view.js';
import { stepStatusText, timeText } from '../output/values.js';
import { runIdOf, type Session, withRun, withSession } from '../session.js';
import { collect, integerArgument, timeArgument } from './arguments.js';
import { idsOf } from './ids.js';
import { repeatedly, watchable } from './repeat.js';
import { showResult, watchRun } from './run-result.js';

interface FilterOptions {
  readonly status?: readonly string[];
  readonly type?: string;
  readonly taskQueue?: string;
  readonly workflowId?: string;
  readonly build?: string;
  readonly since?: Timestamp;
  readonly until?: Timestamp;
  readonly limit: number;
  readonly watch?: boolean;
}

function addFilters(command: Command): Command {
  return command
    .option('-t, --type <name>', 'workflow type')
    .option('-q, --task-queue <name>', 'task queue')
    .option('--since <time>', 'created at or after: a time, or 2h for two hours ago', timeArgument)
    .option('--until <time>', 'created before: a time, or 2h for two hours ago', timeArgument);
}

export function addReads(run: Command): void {
  watchable(addFilters(run.command('list')))
    .description('list runs, newest first')
    .option('-s, --status <status>', 'status, several with commas between', collect)
    .option('--workflow-id <id>', 'workflow id')
    .option('--build <name>', 'build')
    .option('-n, --limit <n>', 'runs at the most; 0 for all', integerArgument, 50)
    .action((options: FilterOptions, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => printList(session.output, await listRuns(session, options), runListView)),
      ),
    );

  addFilters(run.command('count'))
    .description('count runs by status')
    .action((options: FilterOptions, command: Command) =>
      withSession(command, async (session) => {
        const { counts, total } = await session.workflows.countRuns({
          namespace: session.namespace,
          workflowType: options.type ?? '',
          taskQueue: options.taskQueue ?? '',
          ...(options.since === undefined ? {} : { createdAfter: options.since }),
          ...(options.until === undefined ? {} : { createdBefore: options.until }),
        });
        const rows = [
          ...counts.map(({ status, count }) => ({ status: RunStatus[status] ?? '', count })),
          { status: 'total', count: total },
        ];
        printList(session.output, rows, {
          columns: [
            { title: 'STATUS', value: (row) => row.status },
            { title: 'RUNS', align: 'right', value: (row) => String(row.count) },
          ],
          id: (row) => `${row.status} ${row.count}`,
          json: (row) => ({ status: row.status, count: Number(row.count) }),
          empty: '',
        });
      }),
    );

  run
    .command('get <id...>')
    .description('show runs with input and output; - reads ids from stdin')
    .action((ids: string[], _: unknown, command: Command) =>
      withSession(command, async (session) => {
        for (const id of await idsOf(ids)) {
          const found = await withRun(session, id, (ref) => session.workflows.getRun(ref));
          const got = found.run as WorkflowRun;
          printOne(session.output, { id: got.runId, json: runJson(got), text: runText(got) });
        }
      }),
    );

  watchable(run.command('describe <id>'))
    .description('say where a run is, and why it is not moving')
    .action((id: string, options: { watch?: boolean }, command: Command) =>
      withSession(command, (session) => repeatedly(options, () => describeRun(session, id))),
    );

  watchable(run.command('history <id>'))
    .description('show every attempt of every step')
    .option('--payloads', 'with outputs and heartbeat details (json formats)')
    .action((id: string, options: { watch?: boolean; payloads?: boolean }, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => {
          const steps = await readHistory(session, id, options.payloads === true);
          printList(session.output, steps, stepListView(steps));
        }),
      ),
    );

  run
    .command('watch <id>')
    .description('follow a run until it has ended')
    .action((id: string, _: unknown, command: Command) => withSession(command, (session) => watchRun(session, id)));

  run
    .command('result <id>')
    .description('wait for a run to end and print its output')
    .action((id: string, _: unknown, command: Command) =>
      withSession(command, async (session) => showResult(session, await runIdOf(session, id))),
    );
}

async function listRuns(session: Session, options: FilterOptions): Promise<WorkflowRun[]> {
  const statuses = (options.status ?? []).map((text) => {
    const status = RunStatus[text.toUpperCase() as keyof typeof RunStatus];
    if (status === undefined || status === RunStatus.UNSPECIFIED) {
      const known = Object.keys(RunStatus).filter((name) => Number.isNaN(Number(name)) && name !== 'UNSPECIFIED');
      throw new CliError(`There is no status '${text}'; there are ${known.join(', ')}.`, EXIT.usage);
    }
    return status;
  });
  const limit = options.limit === 0 ? Number.POSITIVE_INFINITY : options.limit;
  const runs: WorkflowRun[] = [];
  let pageToken = '';
  do {
    const page = await session.workflows.listRuns({
      namespace: session.namespace,
      statuses,
      workflowType: options.type ?? '',
      taskQueue: options.taskQueue ?? '',
      workflowId: options.workflowId ?? '',
      version: options.build ?? '',
      pageSize: Math.min(1_000, limit - runs.length),
      pageToken,
      ...(options.since === undefined ? {} : { createdAfter: options.since }),
      ...(options.until === undefined ? {} : { createdBefore: options.until }),
    });
    runs.push(...page.runs);
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && runs.length < limit);
  return runs;
}

async function readHistory(session: Session, id: string, includePayloads: boolean): Promise<StepAttempt[]> {
  const runId = await runIdOf(session, id);
  const steps: StepAttempt[] = [];
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
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return steps;
}

async function describeRun(session: Session, id: string): Promise<void> {
  const described = await withRun(session, id, (ref) => session.workflows.describeRun(ref));
  const run = described.run as WorkflowRun;
  const { explanation, currentSteps, completedSteps, attempts, workersOnline, workersWithType } = described;
  const current = currentSteps.map((step) => {
    const tries = step.maxTries > 0 ? ` of ${step.maxTries}` : '';
    const next = step.nextRetryAt ?? step.firesAt;
    const due = next === undefined ? '' : `, due ${timeText(next)}`;
    return `  ${safe(step.stepId)}  ${stepStatusText(step.status)}  try ${step.tryNumber}${tries}${due}`;
  });
  printOne(session.output, {
    id: run.runId,
    json: {
      run: runJson(run),
      waitReason: WaitReason[described.waitReason],
      explanation,
      currentSteps: currentSteps.map(stepJson),
      completedSteps,
      attempts,
      workersOnline,
      workersWithType,
    },
    text: [
      runText(run),
      '',
      pc.bold(safe(explanation)),
      pc.dim(
        `${completedSteps} steps completed, ${attempts} attempts; ${workersOnline} workers online for its queue, ${workersWithType} with its type.`,
      ),
      ...(current.length > 0 ? ['', pc.dim('now'), ...current] : []),
    ].join('\n'),
  });
}
