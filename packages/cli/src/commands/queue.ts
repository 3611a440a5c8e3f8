import { type ListTaskQueuesResponse_TaskQueue, msOf } from '@perdure/proto';
import type { Command } from 'commander';
import { type ListView, printList } from '../output/print.js';
import { safe } from '../output/text.js';
import { spanText } from '../output/time.js';
import { withSession } from '../session.js';
import { repeatedly, watchable } from './repeat.js';

const queueView: ListView<ListTaskQueuesResponse_TaskQueue> = {
  columns: [
    { title: 'QUEUE', min: 12, value: (queue) => safe(queue.name) },
    { title: 'PENDING', align: 'right', value: (queue) => String(queue.pending) },
    { title: 'OLDEST', align: 'right', value: (queue) => spanText(msOf(queue.oldestPendingAge)) },
    { title: 'RUNNING', align: 'right', value: (queue) => String(queue.running) },
    { title: 'SLEEPING', align: 'right', value: (queue) => String(queue.sleeping) },
    { title: 'WORKERS', align: 'right', value: (queue) => String(queue.workersOnline) },
    { title: 'SLOTS', align: 'right', value: (queue) => String(queue.slots) },
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
  }),
  empty: 'No task queue has open runs or workers.',
};

export function addQueueCommands(program: Command): void {
  const queue = program.command('queue').description('list task queues');
  watchable(queue.command('list'))
    .description('list queues with open runs or workers')
    .action((options: { watch?: boolean }, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => {
          const { taskQueues } = await session.admin.listTaskQueues({ namespace: session.namespace });
          printList(session.output, taskQueues, queueView);
        }),
      ),
    );
}
