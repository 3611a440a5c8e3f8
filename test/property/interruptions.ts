import type { LeasedRun, PollActivityRequest, RecordHeartbeatRequest } from '@perdure/proto';
import { WorkerService } from '@perdure/proto';
import { type Connection, RpcError, type ServiceClient } from '@perdure/worker-sdk';
import type postgres from 'postgres';
import { withService } from '../support/held-answers.js';
import type { Seeded } from '../support/seeded.js';

type Transport = ServiceClient<typeof WorkerService>;
type Method = keyof Transport;
type Call = (request: object, options?: object) => Promise<unknown>;

/** How a lease ends before its time. */
type Interruption =
  /** The worker dies after a call was committed, before it hears the answer. */
  | 'dies_after'
  /** The worker dies before the call gets through. */
  | 'dies_before'
  /** The run is given back, as on a deploy. */
  | 'given_back';

interface Plan {
  writesLeft: number;
  readonly how: Interruption;
  isOver: boolean;
}

/** Calls that write something about a leased run. */
const WRITES: readonly Method[] = [
  'beginStep',
  'completeStep',
  'failStep',
  'settleStep',
  'observeCancel',
  'scheduleSleep',
  'awaitStep',
  'takeArrivals',
  'startChildren',
  'suspendRun',
  'completeWorkflow',
  'failWorkflow',
  'confirmCancel',
  'continueWorkflow',
];

export interface InterruptionsOptions {
  readonly connection: Connection;
  readonly sql: postgres.Sql;
  readonly random: Seeded;
  /** The share of leases that end before their time. */
  readonly share: number;
  /** A worker claims a run. */
  readonly onClaim?: (run: LeasedRun) => void;
  /** A call was committed. */
  readonly onCommitted: (method: Method, runId: string, request: object) => void;
  /** A write is about to be sent; for cancels at any moment. */
  readonly onWrite: (runId: string) => Promise<void>;
}

/**
 * A connection for workers that cuts leases short: after some writes of a run the worker gets no further answer about it, and its
 * lease ends at once for everybody else. Everything but the moment of death is real.
 */
export function interrupting(options: InterruptionsOptions): Connection {
  const { connection, sql, random, share } = options;
  const real = connection.service(WorkerService);
  const plans = new Map<string, Plan>();
  const keyOf = (lease: { readonly runId: string; readonly leaseToken: number }) =>
    `${lease.runId}/${lease.leaseToken}`;
  const lost = () => new RpcError('FAILED_PRECONDITION', 'The worker is dead.', { reason: 'LEASE_LOST' });

  const plan = (run: LeasedRun) => {
    if (!random.chance(share)) return;
    const how = random.pick<Interruption>(['dies_after', 'dies_before', 'given_back']);
    plans.set(keyOf(run), { writesLeft: 1 + random.below(3), how, isOver: false });
  };

  /** Renewals that were sent before a lease ended must not arrive after its end, or it would last on without anybody. */
  const renewals = new Set<Promise<unknown>>();

  const endLease = async (lease: { readonly runId: string; readonly leaseToken: number }, how: Interruption) => {
    const { runId, leaseToken } = lease;
    await Promise.allSettled(renewals);
    if (how === 'given_back') await real.releaseRun({ runId, leaseToken }).catch(() => undefined);
    else {
      await sql`update perdure.workflow_runs set lease_expires_at = perdure.clock() - interval '1 s'
        where run_id = ${runId} and lease_token = ${leaseToken} and status = 'RUNNING'`;
    }
  };

  const write = async (
    method: Method,
    request: { readonly runId: string; readonly leaseToken: number },
    rest: object,
  ) => {
    const now = plans.get(keyOf(request));
    if (now?.isOver) throw lost();
    await options.onWrite(request.runId);
    const isLast = now !== undefined && --now.writesLeft <= 0;
    if (now !== undefined && isLast) now.isOver = true;
    if (now === undefined || !isLast || now.how === 'dies_after') {
      try {
        const answer = await (real[method] as Call)(request, rest);
        options.onCommitted(method, request.runId, request);
        if (!isLast) return answer;
      } catch (error) {
        if (!isLast) throw error;
      }
    }
    await endLease(request, now?.how ?? 'dies_after');
    throw lost();
  };

  const intercepted: Partial<Record<Method, Call>> = {
    async pollActivity(request, rest) {
      const answer = await real.pollActivity(request as PollActivityRequest, rest);
      answer.runs.forEach(plan);
      for (const run of answer.runs) options.onClaim?.(run);
      return answer;
    },
    async recordHeartbeat(request, rest) {
      const { leases = [], ...others } = request as RecordHeartbeatRequest;
      const isOver = leases.map((lease) => plans.get(keyOf(lease))?.isOver === true);
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
  };
  for (const method of WRITES) {
    intercepted[method] = (request, rest = {}) => write(method, request as never, rest);
  }
  const transport = { ...real, ...intercepted };
  return withService(connection, (service) =>
    service === (WorkerService as never) ? transport : connection.service(service),
  );
}
