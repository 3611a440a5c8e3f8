import { toJson } from '@bufbuild/protobuf';
import { type ListTaskQueuesResponse_TaskQueue, type WorkerInfo, WorkerInfoSchema, WorkerStatus } from '@perdure/proto';
import type { Command } from 'commander';
import pc from 'picocolors';
import { CliError, EXIT } from '../exit-codes.js';
import { fieldsText, type ListView, printList, printOne, safe, write } from '../output/print.js';
import { msOf, spanText, timeText } from '../output/values.js';
import { type Session, withSession } from '../session.js';
import { idsOf } from './ids.js';
import { repeatedly, watchable } from './repeat.js';

const queueView: ListView<ListTaskQueuesResponse_TaskQueue> = {
  columns: [
    { title: 'QUEUE', value: (queue) => safe(queue.name) },
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

const workerJson = (worker: WorkerInfo): unknown => ({
  ...(toJson(WorkerInfoSchema, worker) as object),
  status: WorkerStatus[worker.status],
});

const workerView: ListView<WorkerInfo> = {
  columns: [
    { title: 'WORKER', value: (worker) => worker.workerId },
    { title: 'IDENTITY', value: (worker) => safe(worker.identity) },
    { title: 'QUEUE', value: (worker) => safe(worker.taskQueue) },
    { title: 'STATUS', value: (worker) => WorkerStatus[worker.status] ?? '' },
    { title: 'RUNNING', align: 'right', value: (worker) => `${worker.running}/${worker.slots}` },
    { title: 'LAST SEEN', value: (worker) => timeText(worker.lastSeenAt) },
    { title: 'VERSION', wide: true, value: (worker) => safe(worker.version) },
    { title: 'WORKFLOWS', wide: true, value: (worker) => safe(worker.workflowTypes.join(', ')) },
  ],
  id: (worker) => worker.workerId,
  json: workerJson,
  empty: 'No worker matches.',
};

export function addAdminCommands(program: Command): void {
  addQueueCommands(program);
  addWorkerCommands(program);
  addNamespaceCommands(program);
  program
    .command('doctor')
    .description('check server and database, and say what is wrong')
    .action((_: unknown, command: Command) => withSession(command, checkUp));
}

function addQueueCommands(program: Command): void {
  const queue = program.command('queue').description('look at task queues');
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

function addWorkerCommands(program: Command): void {
  const worker = program.command('worker').description('look at workers, drain them');
  watchable(worker.command('list'))
    .description('list workers, the most recently seen first')
    .option('-q, --task-queue <name>', 'task queue')
    .option('-a, --all', 'OFFLINE ones too')
    .action((options: { taskQueue?: string; all?: boolean; watch?: boolean }, command: Command) =>
      withSession(command, (session) =>
        repeatedly(options, async () => printList(session.output, await listWorkers(session, options), workerView)),
      ),
    );

  worker
    .command('describe <id>')
    .description('show one worker')
    .action((workerId: string, _: unknown, command: Command) =>
      withSession(command, async (session) => {
        const { worker: found } = await session.admin.getWorker({ namespace: session.namespace, workerId });
        const info = found as WorkerInfo;
        const text = fieldsText([
          ['worker', info.workerId],
          ['identity', safe(info.identity)],
          ['queue', safe(info.taskQueue)],
          ['status', WorkerStatus[info.status]],
          ['running', `${info.running} of ${info.slots} slots`],
          ['lease', spanText(msOf(info.leaseDuration))],
          ['version', safe(info.version)],
          ['workflows', safe(info.workflowTypes.join('\n'))],
          ['registered', timeText(info.registeredAt)],
          ['last seen', timeText(info.lastSeenAt)],
        ]);
        printOne(session.output, { id: info.workerId, json: workerJson(info), text });
      }),
    );

  worker
    .command('drain <id...>')
    .description('tell workers to finish what they run and take nothing new; - reads ids from stdin')
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

async function listWorkers(session: Session, options: { taskQueue?: string; all?: boolean }): Promise<WorkerInfo[]> {
  const workers: WorkerInfo[] = [];
  let pageToken = '';
  do {
    const page = await session.admin.listWorkers({
      namespace: session.namespace,
      taskQueue: options.taskQueue ?? '',
      statuses: options.all === true ? [] : [WorkerStatus.ONLINE, WorkerStatus.DRAINING],
      pageSize: 1_000,
      pageToken,
    });
    workers.push(...page.workers);
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return workers;
}

function addNamespaceCommands(program: Command): void {
  const namespace = program.command('namespace').description('look at namespaces, add them');
  namespace
    .command('list')
    .description('list namespaces')
    .action((_: unknown, command: Command) =>
      withSession(command, async (session) => {
        const { namespaces } = await session.admin.listNamespaces({ pageSize: 1_000 });
        printList(session.output, namespaces, {
          columns: [
            { title: 'NAMESPACE', value: (row) => row.name },
            { title: 'CREATED', value: (row) => timeText(row.createdAt) },
            { title: 'DESCRIPTION', value: (row) => safe(row.description) },
          ],
          id: (row) => row.name,
          json: (row) => ({ name: row.name, description: row.description, createdAt: timeText(row.createdAt) }),
          empty: 'There is no namespace.',
        });
      }),
    );
  namespace
    .command('create <name>')
    .description('add a namespace')
    .option('-d, --description <text>', 'for people', '')
    .action((name: string, options: { description: string }, command: Command) =>
      withSession(command, async (session) => {
        await session.admin.createNamespace({ name, description: options.description });
        printOne(session.output, { id: name, json: { name }, text: `Namespace '${name}' was added.` });
      }),
    );
}

async function checkUp(session: Session): Promise<void> {
  const info = await session.admin.getServerInfo({});
  const [{ workers }, { taskQueues }] = await Promise.all([
    session.admin.listWorkers({ namespace: session.namespace, statuses: [WorkerStatus.ONLINE], pageSize: 1_000 }),
    session.admin.listTaskQueues({ namespace: session.namespace }),
  ]);
  const problems: string[] = [];
  if (!info.durable)
    problems.push('PostgreSQL runs with fsync or synchronous_commit off: acknowledged writes may be lost.');
  for (const queue of taskQueues) {
    if (queue.pending > 0n && queue.workersOnline === 0) {
      problems.push(`Task queue '${safe(queue.name)}' has ${queue.pending} runs to claim and no worker.`);
    }
  }
  const offMs = Math.abs(Date.now() - (msOfTimestamp(info.now) ?? Date.now()));
  if (offMs > 5_000)
    problems.push(
      `This machine's clock and the database's are ${spanText(offMs)} apart. Perdure goes by the database's.`,
    );
  if (session.output === 'json' || session.output === 'jsonl') write(JSON.stringify({ problems }));
  else {
    write(
      fieldsText([
        ['server', `${info.version} at ${session.address} (${info.servers} alive)`],
        ['database', `PostgreSQL ${info.databaseVersion}, schema version ${info.schemaVersion}`],
        ['workers', `${workers.length} online in namespace '${session.namespace}'`],
      ]),
    );
    write(
      problems.length === 0
        ? pc.green('Nothing is wrong.')
        : problems.map((problem) => pc.red(`✗ ${problem}`)).join('\n'),
    );
  }
  if (problems.length > 0) throw new CliError(`${problems.length} problem(s) found.`, EXIT.failed);
}

function msOfTimestamp(timestamp: { readonly seconds: bigint } | undefined): number | undefined {
  return timestamp === undefined ? undefined : Number(timestamp.seconds) * 1000;
}
