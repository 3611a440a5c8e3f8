import type { LeasedRun, PollActivityRequest, RecordHeartbeatRequest } from '@perdure/proto';
import { WorkerService } from '@perdure/proto';
import type { Connection } from '../../rpc/connection.js';
import { RpcError } from '../../rpc/rpc-error.js';
import type { WorkerTransport } from '../../rpc/worker-transport.js';
import { withService } from './with-service.js';

/** Calls of a worker that write something about a leased run. A new transition of workers gets its line here. */
export const WORKER_WRITES = [
  'beginStep',
  'completeStep',
  'failStep',
  'settleStep',
  'observeCancel',
  'scheduleSleep',
  'awaitStep',
  'takeArrivals',
  'answerUpdate',
  'setRunState',
  'startChildren',
  'suspendRun',
  'completeWorkflow',
  'failWorkflow',
  'confirmCancel',
  'continueWorkflow',
  'holdRun',
] as const satisfies readonly (keyof WorkerTransport)[];

/** A call that writes something about a leased run. */
export type WorkerWriteMethod = (typeof WORKER_WRITES)[number];

/** A lease as the server identifies it. */
export interface LeaseKey {
  readonly namespace: string;
  readonly runId: string;
  readonly leaseToken: number;
}

/** A write of a worker that is about to be sent. */
export interface WorkerWrite extends LeaseKey {
  readonly method: WorkerWriteMethod;
  /** The whole request. */
  readonly request: object;
}

/** What happens to the worker, or to its lease of one run, at a write. */
export type Fate =
  | 'lives'
  /** It dies before the call gets through. */
  | 'dies_before'
  /** It dies after the call was committed, before it hears the answer. */
  | 'dies_after'
  /** The run is given back instead of the write, as on a deploy. */
  | 'given_back';

export interface DroppingOptions {
  /** The real connection. */
  readonly connection: Connection;
  /** `lease`: only the run of the write is lost; `worker`: everything that the worker holds, and every later call of it. */
  readonly loses: 'lease' | 'worker';
  /** Ends leases as if they had expired; a test has no time to wait for that. */
  readonly endLeases: (leases: readonly LeaseKey[]) => Promise<void>;
  /** Decides at each write, before it is sent. */
  readonly fateOf: (write: WorkerWrite) => Fate | Promise<Fate>;
  /** The worker has received a run. */
  readonly onLeased?: (run: LeasedRun) => void;
  /** The worker or its lease was dropped, and the leases have ended. */
  readonly onDropped?: (write: WorkerWrite, fate: Fate) => void;
  /** A write was committed. */
  readonly onCommitted?: (write: WorkerWrite) => void;
}

type Call = (request: object, options?: object) => Promise<unknown>;

/**
 * A connection for a worker that is dropped at chosen writes: from then on the worker gets no answer about the run (or about any run),
 * and its lease ends at once for everybody else. Everything but the moment of death is real.
 */
export function dropping(options: DroppingOptions): Connection {
  const { connection, loses } = options;
  const real = connection.service(WorkerService);
  /** Leases that the worker was given and has not lost. */
  const held = new Map<string, LeaseKey>();
  const lost = new Set<string>();
  let isWorkerDead = false;
  let worker: { readonly namespace: string; readonly workerId: string } | undefined;
  /** Renewals that were sent before a lease ended must not arrive after its end, or it would last on without anybody. */
  const renewals = new Set<Promise<unknown>>();
  const isLost = (lease: Pick<LeaseKey, 'runId' | 'leaseToken'>) => isWorkerDead || lost.has(keyOf(lease));

  const endLeases = async (leases: readonly LeaseKey[], how: Fate) => {
    await Promise.allSettled(renewals);
    if (how !== 'given_back') return options.endLeases(leases);
    for (const lease of leases) await real.releaseRun({ ...lease }).catch(() => undefined);
  };

  const write = async (method: WorkerWriteMethod, request: LeaseKey, rest: object) => {
    if (isLost(request)) throw leaseLost();
    const now: WorkerWrite = { ...leaseOf(request), method, request };
    const fate = await options.fateOf(now);
    if (isLost(request)) throw leaseLost();
    const send = () => (real[method] as Call)(request, rest);
    if (fate === 'lives') {
      const answer = await send();
      options.onCommitted?.(now);
      // Another write may have been the last one meanwhile.
      if (isLost(request)) throw leaseLost();
      return answer;
    }
    if (loses === 'worker') isWorkerDead = true;
    else lost.add(keyOf(request));
    if (fate === 'dies_after') {
      await send().then(
        () => options.onCommitted?.(now),
        () => undefined,
      );
    }
    const ended = loses === 'worker' ? [...held.values()] : [now];
    held.clear();
    // Otherwise its polls would claim what it has just lost.
    if (loses === 'worker' && worker !== undefined) await real.drainWorker(worker);
    await endLeases(ended.map(leaseOf), fate);
    options.onDropped?.(now, fate);
    throw leaseLost();
  };

  const intercepted: Partial<Record<keyof WorkerTransport, Call>> = {
    async pollActivity(request, rest) {
      const { namespace = '', workerId } = request as PollActivityRequest;
      worker = { namespace, workerId };
      const answer = await real.pollActivity(request as PollActivityRequest, rest);
      const leases = answer.runs.map(({ runId, leaseToken }) => ({ namespace, runId, leaseToken }));
      if (isWorkerDead) {
        // Claimed for a worker that no longer exists.
        await options.endLeases(leases);
        return { ...answer, runs: [] };
      }
      if (loses === 'worker') for (const lease of leases) held.set(lease.runId, lease);
      for (const run of answer.runs) options.onLeased?.(run);
      return answer;
    },
    async recordHeartbeat(request, rest) {
      const { leases = [], ...others } = request as RecordHeartbeatRequest;
      const isOver = leases.map(isLost);
      const renewal = real.recordHeartbeat({ ...others, leases: leases.filter((_, n) => !isOver[n]) }, rest);
      renewals.add(renewal);
      const answer = await renewal.finally(() => renewals.delete(renewal));
      const states = [...answer.leases];
      answer.leases = leases.map((lease, n) => {
        const dead = {
          $typeName: 'perdure.v1.RecordHeartbeatResponse.LeaseState' as const,
          renewed: false,
          cancelRequested: false,
          hasArrivals: false,
          paused: false,
        };
        return isOver[n] ? { ...dead, runId: lease.runId, leaseToken: lease.leaseToken } : (states.shift() as never);
      });
      return answer;
    },
    async getMemo(request, rest) {
      if (isLost(request as LeaseKey)) throw leaseLost();
      return real.getMemo(request as never, rest);
    },
    async releaseRun(request, rest) {
      // The dead give nothing back.
      if (isLost(request as LeaseKey)) throw leaseLost();
      return real.releaseRun(request as never, rest);
    },
  };
  for (const method of WORKER_WRITES)
    intercepted[method] = (request, rest = {}) => write(method, request as never, rest);
  const transport = { ...real, ...intercepted };
  return withService(connection, (service) =>
    service === (WorkerService as never) ? transport : connection.service(service),
  );
}

const keyOf = ({ runId, leaseToken }: Pick<LeaseKey, 'runId' | 'leaseToken'>) => `${runId}/${leaseToken}`;
const leaseOf = ({ namespace, runId, leaseToken }: LeaseKey): LeaseKey => ({ namespace, runId, leaseToken });
const leaseLost = () => new RpcError('FAILED_PRECONDITION', 'The worker is dead.', { reason: 'LEASE_LOST' });
