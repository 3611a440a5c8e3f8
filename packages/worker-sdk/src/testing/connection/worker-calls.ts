import { WorkerService } from '@perdure/proto';
import { YIELDING } from '../../execution/lease/leased-method.js';
import type { Connection } from '../../rpc/connection.js';
import { withService } from './with-service.js';

/** The connection of a worker. @param onAnswer called when it has given a run back or ended it: everything may stand still now */
export function observingWorker(connection: Connection, onAnswer: () => void): Connection {
  return withService(connection, (service) => {
    const client = connection.service(service) as Record<string, (...args: unknown[]) => Promise<unknown>>;
    if (service !== (WorkerService as never)) return client;
    const observed = { ...client };
    for (const name of YIELDING) {
      const call = client[name];
      if (call !== undefined) observed[name] = (...args) => call(...args).finally(onAnswer);
    }
    return observed;
  });
}
