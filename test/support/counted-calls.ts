import { WorkerService } from '@perdure/proto';
import type { Connection } from '@perdure/worker-sdk';
import { withService } from '@perdure/worker-sdk/testing';

/** The connection of a worker, and how often it called each method. */
export function countCalls(connection: Connection): {
  readonly connection: Connection;
  readonly calls: Map<string, number>;
} {
  const calls = new Map<string, number>();
  const counted = withService(connection, (service) => {
    const client = connection.service(service) as Record<string, (...args: unknown[]) => unknown>;
    if (service !== (WorkerService as never)) return client;
    const methods = Object.entries(client).map(([name, call]) => [
      name,
      (...args: unknown[]) => {
        calls.set(name, (calls.get(name) ?? 0) + 1);
        return call(...args);
      },
    ]);
    return Object.fromEntries(methods) as object;
  });
  return { connection: counted, calls };
}
