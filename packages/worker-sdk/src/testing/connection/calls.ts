import { WorkflowService } from '@perdure/proto';
import type { Connection } from '../../rpc/connection.js';
import { withService } from './with-service.js';

/** Calls of a test that wait for a run: while one of them is under way, and nothing else, time may skip. */
const WAITING: ReadonlySet<string> = new Set(['awaitRun', 'executeWorkflow', 'updateRun']);

/** What a call waits for: the end of a run, by either id, or the answer to an update. */
interface Awaited {
  readonly runId?: string | undefined;
  readonly workflowId?: string | undefined;
  readonly requestId?: string | undefined;
}

/** The calls that a test has under way. */
export class CallCount {
  readonly waiting = new Set<Awaited>();
  /** All others: what they change is not there yet. */
  acting = 0;

  /** Ids of what is awaited. */
  get awaited(): Record<'runIds' | 'workflowIds' | 'requestIds', readonly string[]> {
    const calls = [...this.waiting];
    const idsOf = (key: keyof Awaited) => calls.flatMap((call) => (call[key] === undefined ? [] : [call[key]]));
    return { runIds: idsOf('runId'), workflowIds: idsOf('workflowId'), requestIds: idsOf('requestId') };
  }
}

/** A connection for the client of a test, whose calls are counted. */
export function countingCalls(connection: Connection, count: CallCount, onChange: () => void): Connection {
  return withService(connection, (service) => {
    const client = connection.service(service) as Record<string, (...args: unknown[]) => Promise<unknown>>;
    if (service !== (WorkflowService as never)) return client;
    const methods = Object.entries(client).map(([name, call]) => {
      if (name === 'watchRun') return [name, call] as const;
      const counted = async (...args: unknown[]) => {
        const awaited = WAITING.has(name) ? awaitedBy(name, args[0] as never) : undefined;
        if (awaited === undefined) count.acting++;
        else count.waiting.add(awaited);
        onChange();
        try {
          return await call(...args);
        } finally {
          if (awaited === undefined) count.acting--;
          else count.waiting.delete(awaited);
          onChange();
        }
      };
      return [name, counted] as const;
    });
    return Object.fromEntries(methods);
  });
}

interface Request {
  readonly runId?: string;
  readonly workflowId?: string;
  readonly requestId?: string;
  readonly start?: { readonly workflowId?: string; readonly requestId?: string };
}

function awaitedBy(method: string, { runId, workflowId, requestId, start }: Request): Awaited {
  if (method === 'updateRun') return { requestId };
  if (method === 'awaitRun') return { runId: runId || undefined, workflowId: workflowId || undefined };
  return { workflowId: start?.workflowId || start?.requestId };
}
