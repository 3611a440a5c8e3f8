import { DispatchKind, type DispatchPause } from '@perdure/proto';
import type { Command } from 'commander';
import { type ListView, printList, printOne } from '../output/print.js';
import { safe } from '../output/text.js';
import { timeJson, timeText } from '../output/time.js';
import { withSession } from '../session.js';
import { sender } from './run-messages.js';

const pausedView: ListView<DispatchPause> = {
  columns: [
    { title: 'WORKFLOW', min: 12, value: (pause) => safe(pause.name) },
    { title: 'PAUSED', value: (pause) => timeText(pause.pausedAt) },
    { title: 'BY', min: 8, value: (pause) => safe(pause.pausedBy) },
    { title: 'REASON', min: 12, value: (pause) => safe(pause.reason) },
  ],
  id: (pause) => pause.name,
  json: (pause) => ({
    name: pause.name,
    pausedAt: timeJson(pause.pausedAt),
    pausedBy: pause.pausedBy,
    reason: pause.reason,
  }),
  empty: 'No workflow type is paused.',
};

export function addWorkflowCommands(program: Command): void {
  const workflow = program.command('workflow').description('pause and resume workflow types');
  workflow
    .command('list')
    .description('list workflow types that are paused')
    .action((_: unknown, command: Command) =>
      withSession(command, async (session) => {
        const { pauses } = await session.admin.listPauses({ namespace: session.namespace });
        const types = pauses.filter(({ kind }) => kind === DispatchKind.WORKFLOW_TYPE);
        printList(session.output, types, pausedView);
      }),
    );
  workflow
    .command('pause <type>')
    .description('no worker claims a run of the type; starts wait, runs that workers hold continue')
    .option('-r, --reason <text>', 'shown to people', '')
    .action((workflowType: string, { reason }: { reason: string }, command: Command) =>
      withSession(command, async ({ namespace, admin, output }) => {
        const { paused } = await admin.pauseWorkflowType({ namespace, workflowType, reason, actor: sender() });
        const text = `Workflow '${safe(workflowType)}' ${paused ? 'is paused.' : 'was paused already.'}`;
        printOne(output, { id: workflowType, json: { workflowType, paused }, text });
      }),
    );
  workflow
    .command('resume <type>')
    .description('let workers claim runs of the type again')
    .action((workflowType: string, _: unknown, command: Command) =>
      withSession(command, async ({ namespace, admin, output }) => {
        const { resumed } = await admin.resumeWorkflowType({ namespace, workflowType });
        const text = `Workflow '${safe(workflowType)}' ${resumed ? 'is resumed.' : 'was not paused.'}`;
        printOne(output, { id: workflowType, json: { workflowType, resumed }, text });
      }),
    );
}
