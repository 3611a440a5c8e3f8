/** Dead letters: runs that have FAILED and that nobody has dealt with. */
import type { FailureGroup } from '@perdure/proto';
import type { Command } from 'commander';
import { failureGroupView } from '../output/failure-group-view.js';
import { hint, isTable, printList } from '../output/print.js';
import { type Session, withSession } from '../session.js';
import { countArgument } from './arguments.js';
import { repeatedly, watchable } from './repeat.js';
import { showRuns } from './run-list.js';

interface FailureOptions {
  readonly type?: string;
  readonly limit: number;
  readonly watch?: boolean;
}

/** Groups that are read before they are sorted. */
const MAX_GROUPS = 10_000;

export function addFailures(run: Command): void {
  watchable(run.command('failures [fingerprint]'))
    .description(
      'dead letters (failed runs that nobody has retried, restarted or dismissed): groups that failed alike, or the runs of one',
    )
    .option('-t, --type <name>', 'workflow type')
    .option('-n, --limit <n>', 'show at most n groups, the largest first, or n runs; 0 for all', countArgument, 50)
    .action((fingerprint: string | undefined, options: FailureOptions, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, () =>
          fingerprint === undefined
            ? showGroups(session, options)
            : showRuns(session, { ...options, fingerprint, unresolved: true }),
        ),
      ),
    );
}

async function showGroups(session: Session, { type, limit }: FailureOptions): Promise<void> {
  const groups: FailureGroup[] = [];
  let pageToken = '';
  do {
    const request = { namespace: session.namespace, workflowType: type ?? '', pageSize: 1_000, pageToken };
    const page = await session.workflows.listFailures(request);
    groups.push(...page.groups);
    pageToken = page.nextPageToken;
  } while (pageToken !== '' && groups.length < MAX_GROUPS);
  groups.sort((one, other) => other.runs - one.runs || one.fingerprint.localeCompare(other.fingerprint));
  const shown = limit === 0 ? groups : groups.slice(0, limit);
  printList(session.output, shown, failureGroupView);
  if (shown.length < groups.length || pageToken !== '') {
    hint(
      `The largest ${shown.length} of ${pageToken === '' ? '' : 'more than '}${groups.length} groups. All: --limit 0.`,
    );
  }
  if (shown.length > 0 && isTable(session.output)) hint('The runs of a group: perdure run failures <fingerprint>');
}
