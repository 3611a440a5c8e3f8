/**
 * Renews leases, any number in one statement, by the lease duration of the worker that holds each.
 *
 * `lease_expires_at` never moves back. Only unindexed columns change, so a renewal is a heap-only update.
 */
import type { RenewLease, RenewLeaseOutcome } from '../../commands.js';
import type { Database } from '../../database/database.js';
import { defineStatement } from '../../database/statement.js';
import { fenceOutcome, fenceParameters, unknownVerdict, type VerdictRow } from '../parts/batch.js';
import { FENCE_VERDICT, LOCKED_RUNS } from '../parts/fence.js';

const RENEW_LEASES = defineStatement(
  'renew_leases',
  `with ${LOCKED_RUNS},
  command as (
    select * from unnest($1::uuid[], $2::text[], $3::int[])
      with ordinality as t(run_id, namespace, lease_token, ord)
  ),
  judged as (
    select c.*, l.leased_by, l.cancel_requested_at is not null as cancel_requested, l.has_arrivals,
      l.paused_at is not null as is_paused, coalesce(${FENCE_VERDICT}, 'renewed') as verdict
    from command c
    left join locked l on l.run_id = c.run_id
  ),
  renewed as (
    update perdure.workflow_runs r
    set lease_expires_at = greatest(r.lease_expires_at, perdure.clock() + coalesce(w.lease_ms, 30000) * interval '1 ms')
    from judged j
    left join perdure.workers w on w.worker_id = j.leased_by
    where j.verdict = 'renewed' and r.run_id = j.run_id
    returning 1
  )
  select ord::int as ord, verdict, coalesce(cancel_requested, false) as cancel_requested,
    coalesce(has_arrivals, false) as has_arrivals, is_paused from judged order by ord`,
);

interface Row extends VerdictRow {
  readonly cancel_requested: boolean;
  readonly has_arrivals: boolean;
  readonly is_paused: boolean;
}

/** @returns one outcome per command, in their order */
export async function renewLeases(db: Database, commands: readonly RenewLease[]): Promise<RenewLeaseOutcome[]> {
  if (commands.length === 0) return [];
  const rows = await db.query<Row>(RENEW_LEASES, fenceParameters(commands));
  return rows.map((row) => {
    if (row.verdict === 'renewed') {
      return {
        kind: 'renewed',
        cancelRequested: row.cancel_requested,
        hasArrivals: row.has_arrivals,
        isPaused: row.is_paused,
      };
    }
    return fenceOutcome(row.verdict) ?? unknownVerdict('renew_leases', row.verdict);
  });
}
