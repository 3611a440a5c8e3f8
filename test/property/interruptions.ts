import type { LeasedRun } from '@perdure/proto';
import type { Connection } from '@perdure/worker-sdk';
import { dropping, type Fate, type WorkerWrite } from '@perdure/worker-sdk/testing';
import type postgres from 'postgres';
import type { Seeded } from '../support/seeded.js';

interface Plan {
  writesLeft: number;
  readonly how: Fate;
}

export interface InterruptionsOptions {
  readonly connection: Connection;
  readonly sql: postgres.Sql;
  readonly random: Seeded;
  /** The share of leases that end before their time. */
  readonly share: number;
  /** A worker claims a run. */
  readonly onClaim?: (run: LeasedRun) => void;
  /** A call was committed. */
  readonly onCommitted: (write: WorkerWrite) => void;
  /** A write is about to be sent; for cancels at any moment. */
  readonly onWrite: (runId: string) => Promise<void>;
}

/** A connection for workers that loses leases at random, after some writes of each. */
export function interrupting({
  connection,
  sql,
  random,
  share,
  onClaim,
  onCommitted,
  onWrite,
}: InterruptionsOptions): Connection {
  const plans = new Map<string, Plan>();
  const keyOf = (lease: { readonly runId: string; readonly leaseToken: number }) =>
    `${lease.runId}/${lease.leaseToken}`;
  return dropping({
    connection,
    loses: 'lease',
    onLeased(run) {
      onClaim?.(run);
      if (!random.chance(share)) return;
      const how = random.pick<Fate>(['dies_after', 'dies_before', 'given_back']);
      plans.set(keyOf(run), { writesLeft: 1 + random.below(3), how });
    },
    async fateOf(write) {
      await onWrite(write.runId);
      const plan = plans.get(keyOf(write));
      return plan !== undefined && --plan.writesLeft <= 0 ? plan.how : 'lives';
    },
    onCommitted,
    async endLeases(leases) {
      for (const { runId, leaseToken } of leases) {
        await sql`update perdure.workflow_runs set lease_expires_at = perdure.clock() - interval '1 s'
          where run_id = ${runId} and lease_token = ${leaseToken} and status = 'RUNNING'`;
      }
    },
  });
}
