import { create } from '@bufbuild/protobuf';
import {
  DispatchKind,
  type DispatchPause,
  type ListTaskQueuesResponse_TaskQueue,
  ListTaskQueuesResponse_TaskQueueSchema,
  msOf,
} from '@perdure/proto';
import type { Command } from 'commander';
import { pauseText } from '../output/pause-view.js';
import { type ListView, printList, printOne } from '../output/print.js';
import { safe } from '../output/text.js';
import { spanText, timeJson } from '../output/time.js';
import { type Session, withSession } from '../session.js';
import { repeatedly, watchable } from './repeat.js';
import { sender } from './run-messages.js';

/** A queue with its pause. */
type Queue = ListTaskQueuesResponse_TaskQueue & { readonly pause?: DispatchPause | undefined };

const queueView: ListView<Queue> = {
  columns: [
    { title: 'QUEUE', min: 12, value: (queue) => safe(queue.name) },
    { title: 'PENDING', align: 'right', value: (queue) => String(queue.pending) },
    { title: 'OLDEST', align: 'right', value: (queue) => spanText(msOf(queue.oldestPendingAge)) },
    { title: 'RUNNING', align: 'right', value: (queue) => String(queue.running) },
    { title: 'SLEEPING', align: 'right', value: (queue) => String(queue.sleeping) },
    { title: 'WORKERS', align: 'right', value: (queue) => String(queue.workersOnline) },
    { title: 'SLOTS', align: 'right', value: (queue) => String(queue.slots) },
    { title: 'PAUSED', value: (queue) => (queue.pause === undefined ? '' : pauseText(queue.pause)) },
  ],
  id: (queue) => queue.name,
  json: (queue) => ({
    name: queue.name,
    pending: Number(queue.pending),
    running: Number(queue.running),
    sleeping: Number(queue.sleeping),
    oldestPendingAgeMs: msOf(queue.oldestPendingAge) ?? null,
    workersOnline: queue.workersOnline,
    slots: queue.slots,
    pause:
      queue.pause === undefined
        ? null
        : {
            pausedAt: timeJson(queue.pause.pausedAt),
            pausedBy: queue.pause.pausedBy,
            reason: queue.pause.reason,
          },
  }),
  empty: 'No task queue has open runs or workers, and none is paused.',
};

export function addQueueCommands(program: Command): void {
  const queue = program.command('queue').description('list, pause and resume task queues');
  watchable(queue.command('list'))
    .description('list queues with open runs or workers')
    .action((options: { watch?: boolean }, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => {
          printList(session.output, await listQueues(session), queueView);
        }),
      ),
    );
  queue
    .command('pause <name>')
    .description('no worker claims a run of the queue; starts wait, runs that workers hold continue')
    .option('-r, --reason <text>', 'shown to people', '')
    .action((taskQueue: string, { reason }: { reason: string }, command: Command) =>
      withSession(command, async ({ namespace, admin, output }) => {
        const { paused } = await admin.pauseTaskQueue({ namespace, taskQueue, reason, actor: sender() });
        const text = `Task queue '${safe(taskQueue)}' ${paused ? 'is paused.' : 'was paused already.'}`;
        printOne(output, { id: taskQueue, json: { taskQueue, paused }, text });
      }),
    );
  queue
    .command('resume <name>')
    .description('let workers claim runs of the queue again')
    .action((taskQueue: string, _: unknown, command: Command) =>
      withSession(command, async ({ namespace, admin, output }) => {
        const { resumed } = await admin.resumeTaskQueue({ namespace, taskQueue });
        const text = `Task queue '${safe(taskQueue)}' ${resumed ? 'is resumed.' : 'was not paused.'}`;
        printOne(output, { id: taskQueue, json: { taskQueue, resumed }, text });
      }),
    );
}

/** Also queues that are paused and have neither runs nor workers. */
async function listQueues({ namespace, admin }: Session): Promise<readonly Queue[]> {
  const [{ taskQueues }, { pauses }] = await Promise.all([
    admin.listTaskQueues({ namespace }),
    admin.listPauses({ namespace }),
  ]);
  const paused = new Map(
    pauses.flatMap((pause) => (pause.kind === DispatchKind.TASK_QUEUE ? [[pause.name, pause] as const] : [])),
  );
  const known = new Set(taskQueues.map(({ name }) => name));
  const idle = [...paused.keys()].filter((name) => !known.has(name));
  return [...taskQueues, ...idle.map((name) => create(ListTaskQueuesResponse_TaskQueueSchema, { name }))].map(
    (queue) => ({
      ...queue,
      pause: paused.get(queue.name),
    }),
  );
}
