/** Pauses and resumes runs. */
import { RunStatus } from '@perdure/proto';
import type { Command } from 'commander';
import { CliError, EXIT } from '../exit-codes.js';
import { hint } from '../output/print.js';
import { runStatusText } from '../output/statuses.js';
import { count } from '../output/text.js';
import { type Session, withRun, withSession } from '../session.js';
import { idsOf } from './ids.js';
import { actOnRuns, type Done } from './run-actions.js';
import { sender } from './run-messages.js';

interface ResumeOptions {
  readonly held?: boolean;
  readonly type?: string;
  readonly taskQueue?: string;
}

export function addPauses(run: Command): void {
  run
    .command('pause <id...>')
    .description('stop runs before their next step; - reads ids from stdin')
    .option('-r, --reason <text>', 'recorded with the run', '')
    .action((ids: string[], { reason }: { reason: string }, command: Command) =>
      withSession(command, async (session) => {
        const pause = async (id: string): Promise<Done> => {
          const actor = sender();
          const { status } = await withRun(session, id, (ref) => session.workflows.pauseRun({ ...ref, reason, actor }));
          const more = status === RunStatus.PAUSED ? '' : ' (paused when what is under way has ended)';
          return { status: RunStatus[status], text: `${runStatusText(status)}${more}` };
        };
        await actOnRuns(session, await idsOf(ids), 'paused', pause);
      }),
    );

  run
    .command('resume [id...]')
    .description('let paused runs continue; - reads ids from stdin')
    .option('--held', 'all runs that are held, because their worker could not continue them')
    .option('-t, --type <name>', 'with --held: only of this workflow type')
    .option('-q, --task-queue <name>', 'with --held: only of this task queue')
    .action((ids: string[], options: ResumeOptions, command: Command) =>
      withSession(command, async (session) => {
        checkResume(ids, options);
        const resume = async (id: string): Promise<Done> => {
          const { status, resumed } = await withRun(session, id, (ref) =>
            session.workflows.resumeRun({ ...ref, actor: sender() }),
          );
          return { status: RunStatus[status], text: `${runStatusText(status)}${resumed ? '' : ' (was not paused)'}` };
        };
        const all = options.held === true ? await heldRuns(session, options) : await idsOf(ids);
        if (options.held === true) hint(all.length === 0 ? 'No run is held.' : `Resuming ${count(all.length, 'run')}.`);
        await actOnRuns(session, all, 'resumed', resume);
      }),
    );
}

function checkResume(ids: readonly string[], { held, type, taskQueue }: ResumeOptions): void {
  if (held === true && ids.length > 0) throw new CliError('Give either run ids or --held.', EXIT.usage);
  if (held !== true && ids.length === 0)
    throw new CliError('Give run ids, or --held for all that are held.', EXIT.usage);
  if (held !== true && (type !== undefined || taskQueue !== undefined)) {
    throw new CliError('--type and --task-queue choose among held runs: add --held.', EXIT.usage);
  }
}

async function heldRuns({ namespace, workflows }: Session, { type, taskQueue }: ResumeOptions): Promise<string[]> {
  const ids: string[] = [];
  let pageToken = '';
  do {
    const filter = { namespace, held: true, workflowType: type ?? '', taskQueue: taskQueue ?? '' };
    const page = await workflows.listRuns({ ...filter, pageSize: 1_000, pageToken });
    ids.push(...page.runs.map(({ runId }) => runId));
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return ids;
}
