import type { WorkerService } from '@perdure/proto';
import type { Connection, ServiceClient } from '@perdure/worker-sdk';
import { withService } from '@perdure/worker-sdk/testing';

type WorkerCalls = ServiceClient<typeof WorkerService>;

/** Called with each answer of a method that is on its way; it arrives when the promise resolves. */
export type Hold = { [K in keyof WorkerCalls]?: (answer: Awaited<ReturnType<WorkerCalls[K]>>) => Promise<void> };

/** The connection as a stalled network, or a process that stands still, lets a worker see it: calls get out, answers wait. */
export function holdAnswers(connection: Connection, hold: Hold): Connection {
  return withService(connection, (service) => {
    const calls = connection.service(service as typeof WorkerService);
    const held: Record<string, unknown> = { ...calls };
    for (const [method, until] of Object.entries(hold)) {
      const call = calls[method as keyof WorkerCalls] as (...args: unknown[]) => Promise<never>;
      held[method] = async (...args: unknown[]) => {
        const answer = await call(...args);
        await (until as (answer: never) => Promise<void>)(answer);
        return answer;
      };
    }
    return held;
  });
}

/** A promise that the test resolves. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open: () => open() };
}
