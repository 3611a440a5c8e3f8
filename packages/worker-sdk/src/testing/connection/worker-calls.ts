import { WorkerService } from '@perdure/proto';
import type { Connection } from '../../rpc/connection.js';
import { WORKER_WRITES } from './dropping.js';
import { withService } from './with-service.js';

/** The connection of a worker. @param onAnswer called when a write of it was answered: a run may stand still now */
export function observingWorker(connection: Connection, onAnswer: () => void): Connection {
  return withService(connection, (service) => {
    const client = connection.service(service) as Record<string, (...args: unknown[]) => Promise<unknown>>;
    if (service !== (WorkerService as never)) return client;
    const observed = { ...client };
    for (const name of WORKER_WRITES) {
      const call = client[name];
      if (call !== undefined) observed[name] = (...args) => call(...args).finally(onAnswer);
    }
    return observed;
  });
}
