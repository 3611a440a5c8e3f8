import { type WorkerInfo, WorkerStatus } from '@perdure/proto';
import type { Command } from 'commander';
import { printList, printOne } from '../output/print.js';
import { workerJson, workerText, workerView } from '../output/worker-view.js';
import { type Session, withSession } from '../session.js';
import { idsOf } from './ids.js';
import { repeatedly, watchable } from './repeat.js';

export function addWorkerCommands(program: Command): void {
  const worker = program.command('worker').description('list, show and drain workers');
  watchable(worker.command('list'))
    .description('list workers, the most recently seen first')
    .option('-q, --task-queue <name>', 'task queue')
    .option('-a, --all', 'include OFFLINE workers')
    .action((options: { taskQueue?: string; all?: boolean; watch?: boolean }, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => {
          const statuses = options.all === true ? [] : [WorkerStatus.ONLINE, WorkerStatus.DRAINING];
          printList(session.output, await listWorkers(session, { ...options, statuses }), workerView);
        }),
      ),
    );

  worker
    .command('describe <id>')
    .description('show one worker')
    .action((workerId: string, _: unknown, command: Command) =>
      withSession(command, async (session) => {
        const { worker: found } = await session.admin.getWorker({ namespace: session.namespace, workerId });
        const info = found as WorkerInfo;
        printOne(session.output, { id: info.workerId, json: workerJson(info), text: workerText(info) });
      }),
    );

  worker
    .command('drain <id...>')
    .description('request that workers end their runs and take no new ones; - reads ids from stdin')
    .action((ids: string[], _: unknown, command: Command) =>
      withSession(command, async (session) => {
        for (const workerId of await idsOf(ids)) {
          const { status } = await session.workers.drainWorker({ namespace: session.namespace, workerId });
          const name = WorkerStatus[status] ?? '';
          printOne(session.output, { id: workerId, json: { workerId, status: name }, text: `${workerId} ${name}` });
        }
      }),
    );
}

/** @param filter `statuses`: empty means all */
export async function listWorkers(
  session: Session,
  filter: { readonly taskQueue?: string; readonly statuses: readonly WorkerStatus[] },
): Promise<WorkerInfo[]> {
  const workers: WorkerInfo[] = [];
  let pageToken = '';
  do {
    const page = await session.admin.listWorkers({
      namespace: session.namespace,
      taskQueue: filter.taskQueue ?? '',
      statuses: [...filter.statuses],
      pageSize: 1_000,
      pageToken,
    });
    workers.push(...page.workers);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return workers;
}
