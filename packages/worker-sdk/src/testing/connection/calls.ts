import { WorkflowService } from '@perdure/proto';
import type { Connection } from '../../rpc/connection.js';
import { withService } from './with-service.js';

/** Calls of a test that wait for a run: while one of them is under way, and nothing else, time may skip. */
const WAITING: ReadonlySet<string> = new Set(['awaitRun', 'executeWorkflow', 'updateRun']);

/** What a call waits for: the end of a run, by either id; without ids, for something else. */
interface Awaited {
  readonly runId?: string;
  readonly workflowId?: string;
}

/** The calls that a test has under way. */
export class CallCount {
  readonly waiting = new Set<Awaited>();
  /** All others: what they change is not there yet. */
  acting = 0;

  /** Ids of the runs whose end is awaited. */
  get awaited(): { readonly runIds: readonly string[]; readonly workflowIds: readonly string[] } {
    const calls = [...this.waiting];
    return {
      runIds: calls.flatMap(({ runId }) => (runId === undefined ? [] : [runId])),
      workflowIds: calls.flatMap(({ workflowId }) => (workflowId === undefined ? [] : [workflowId])),
    };
  }

  /** A call waits for something other than the end of a run. */
  get isWaitingOtherwise(): boolean {
    return [...this.waiting].some(({ runId, workflowId }) => runId === undefined && workflowId === undefined);
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
  readonly start?: { readonly workflowId?: string; readonly requestId?: string };
}

function awaitedBy(method: string, { runId, start }: Request): Awaited {
  if (method === 'awaitRun' && runId !== undefined) return { runId };
  const workflowId = start?.workflowId || start?.requestId;
  return method === 'executeWorkflow' && workflowId !== undefined ? { workflowId } : {};
}
