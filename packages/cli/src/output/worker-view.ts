import { toJson } from '@bufbuild/protobuf';
import { msOf, type WorkerInfo, WorkerInfoSchema, WorkerStatus } from '@perdure/proto';
import { fieldsText, type ListView } from './print.js';
import { safe } from './text.js';
import { spanText, timeText } from './time.js';

/** A worker for `-o json`: nothing left out. */
export function workerJson(worker: WorkerInfo): unknown {
  const json = toJson(WorkerInfoSchema, worker, { alwaysEmitImplicit: true }) as Record<string, unknown>;
  return { ...json, status: WorkerStatus[worker.status] };
}

export const workerView: ListView<WorkerInfo> = {
  columns: [
    { title: 'WORKER', value: (worker) => worker.workerId },
    { title: 'IDENTITY', min: 12, value: (worker) => safe(worker.identity) },
    { title: 'QUEUE', min: 8, value: (worker) => safe(worker.taskQueue) },
    { title: 'STATUS', value: (worker) => WorkerStatus[worker.status] ?? '' },
    { title: 'RUNNING', align: 'right', value: (worker) => `${worker.running}/${worker.slots}` },
    { title: 'LAST SEEN', dispensable: 1, value: (worker) => timeText(worker.lastSeenAt) },
    { title: 'BUILD', wide: true, value: (worker) => safe(worker.build) },
    { title: 'WORKFLOWS', wide: true, value: (worker) => safe(worker.workflowTypes.join(', ')) },
  ],
  id: (worker) => worker.workerId,
  json: workerJson,
  empty: 'No worker matches.',
};

export function workerText(worker: WorkerInfo): string {
  return fieldsText([
    ['worker', worker.workerId],
    ['identity', safe(worker.identity)],
    ['queue', safe(worker.taskQueue)],
    ['status', WorkerStatus[worker.status]],
    ['running', `${worker.running} of ${worker.slots} slots`],
    ['lease', spanText(msOf(worker.leaseDuration))],
    ['build', safe(worker.build)],
    ['workflows', safe(worker.workflowTypes.join('\n'))],
    ['registered', timeText(worker.registeredAt)],
    ['last seen', timeText(worker.lastSeenAt)],
  ]);
}
