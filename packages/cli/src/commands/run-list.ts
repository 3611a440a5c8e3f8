/** Lists and counts of runs. */
import { RunStatus, type WorkflowRun } from '@perdure/proto';
import type { Command } from 'commander';
import { hint, isTable, type ListView, printList } from '../output/print.js';
import { runListView } from '../output/run-view.js';
import { type Session, withSession } from '../session.js';
import { countArgument } from './arguments.js';
import { repeatedly, watchable } from './repeat.js';
import {
  addCommonFilters,
  addRunFilters,
  type CommonFilter,
  commonFields,
  filterFields,
  type RunFilterOptions,
} from './run-filters.js';

interface ListOptions extends RunFilterOptions {
  readonly limit: number;
  readonly cursor?: string;
  readonly watch?: boolean;
}

export function addLists(run: Command): void {
  watchable(addRunFilters(run.command('list')))
    .description('list runs, newest first')
    .option('-n, --limit <n>', 'list at most n runs; 0 for all', countArgument, 50)
    .option('--cursor <cursor>', 'continue after an earlier list with the same filters')
    .action((options: ListOptions, command: Command) =>
      withSession(command, (session) => repeatedly(options, () => showRuns(session, options))),
    );

  addCommonFilters(run.command('count'))
    .description('count runs by status')
    .action((options: CommonFilter, command: Command) =>
      withSession(command, async (session) => {
        const { counts, total } = await session.workflows.countRuns({
          namespace: session.namespace,
          ...commonFields(options),
        });
        const rows = counts.map(({ status, count }) => ({ status: RunStatus[status] ?? '', count }));
        printList(
          session.output,
          isTable(session.output) ? [...rows, { status: 'total', count: total }] : rows,
          countView,
        );
      }),
    );
}

const countView: ListView<{ readonly status: string; readonly count: bigint }> = {
  columns: [
    { title: 'STATUS', value: (row) => row.status },
    { title: 'RUNS', align: 'right', value: (row) => String(row.count) },
  ],
  id: (row) => `${row.status} ${row.count}`,
  json: (row) => ({ status: row.status, count: Number(row.count) }),
  empty: '',
};

export async function showRuns(session: Session, options: ListOptions): Promise<void> {
  const limit = options.limit === 0 ? Number.POSITIVE_INFINITY : options.limit;
  const runs: WorkflowRun[] = [];
  let pageToken = options.cursor ?? '';
  do {
    const page = await session.workflows.listRuns({
      namespace: session.namespace,
      ...filterFields(options),
      pageSize: Math.min(1_000, limit - runs.length),
      pageToken,
    });
    runs.push(...page.runs);
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && runs.length < limit);
  printList(session.output, runs, runListView);
  if (pageToken !== '') {
    hint(`The first ${runs.length}; there are more runs. All: --limit 0. Next page: --cursor ${pageToken}`);
  }
}
