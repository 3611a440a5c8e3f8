/**
 * Takes runs back whose lease has expired: attempt + 1, open attempts closed as WORKER_LOST.
 *
 * The first loss makes the run claimable at once; further ones in a row, with no step completed under the lost lease,
 * wait for a backoff that doubles, and the one that reaches `max_lost_leases` ends the run as FAILED, so a run that kills
 * every worker cannot do so for ever. A run whose cancel was asked for does not wait.
 *
 * After an outage the leases of live workers have expired only because there was no server to renew them at. Nothing is
 * taken until a server has been alive for `serverGraceMs` without a gap.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import { SERVER_SILENCE_MS } from '../transitions/announce-servers.js';
import { LOSE_OPEN_STEPS } from '../transitions/close-steps.js';
import { type QueueRef, queuesOf } from './queues.js';

const RECLAIM_LEASES = defineStatement(
  'reclaim_leases',
  `with expired as materialized (
    select r.run_id, r.lease_token, r.lost_leases, r.max_lost_leases, r.cancel_requested_at, r.locked_by
    from perdure.workflow_runs r
    where r.status = 'RUNNING' and r.locked_until < perdure.clock()
      and ($4::bigint = 0 or exists (
        select 1 from perdure.servers v
        where v.last_seen_at >= perdure.clock() - $5::int * interval '1 ms'
          and v.alive_since <= perdure.clock() - $4::bigint * interval '1 ms'))
    limit $1
    for no key update of r skip locked
  ),
  counted as (
    select e.*, case when exists (
        select 1 from perdure.step_runs s
        where s.run_id = e.run_id and s.lease_token = e.lease_token and s.status = 'COMPLETED' and s.attempt_key = 0
      ) then 1 else e.lost_leases + 1 end as losses
    from expired e
  ),
  judged as (
    select c.*,
      case
        when c.losses >= c.max_lost_leases and c.cancel_requested_at is null then 'FAILED'
        when c.losses = 1 or c.cancel_requested_at is not null then 'PENDING'
        else 'SLEEPING'
      end as next_status,
      least($2::float8 * 2.0 ^ least(c.losses - 2, 30), $3::float8) as backoff_ms
    from counted c
  ),
  closing as (
    select run_id, 'The worker that ran this attempt died or stalled past its lease.' as message from judged
  ),
  ${LOSE_OPEN_STEPS},
  reclaimed as (
    update perdure.workflow_runs r
    set status = j.next_status, yield_reason = 'RECLAIM', lost_leases = j.losses,
      attempt = r.attempt + case when j.next_status = 'FAILED' then 0 else 1 end,
      available_at = case when j.next_status = 'PENDING' then perdure.clock() end,
      wake_at = case when j.next_status = 'SLEEPING' then perdure.clock() + j.backoff_ms * interval '1 ms' end,
      finished_at = case when j.next_status = 'FAILED' then perdure.clock() end,
      failure = case when j.next_status = 'FAILED' then jsonb_build_object('type', 'TooManyLostLeasesError',
        'reason', 'TOO_MANY_LOST_LEASES', 'message', format(
          'The run lost its worker %s times in a row without completing a step in between; the last one was %s.',
          j.losses, j.locked_by)) else r.failure end,
      locked_by = null, locked_until = null, updated_at = perdure.clock()
    from judged j
    where r.run_id = j.run_id
    returning r.run_id, r.namespace, r.task_queue, r.status
  )
  select run_id, namespace, task_queue, status, 1 as runs from reclaimed`,
);

interface Row {
  readonly run_id: string;
  readonly namespace: string;
  readonly task_queue: string;
  readonly status: 'PENDING' | 'SLEEPING' | 'FAILED';
  readonly runs: number;
}

export interface ReclaimOptions {
  /** Runs in this sweep at the most. */
  readonly limit: number;
  /** Backoff after the second loss in a row, in ms. */
  readonly backoffMs: number;
  /** Longest backoff, in ms. */
  readonly maxBackoffMs: number;
  /** How long a server must have been alive, in ms; 0: do not look at servers. */
  readonly serverGraceMs: number;
}

export interface Reclaimed {
  readonly runIds: readonly string[];
  /** Queues that got a claimable run. */
  readonly queues: readonly QueueRef[];
  /** Runs that ended. */
  readonly failedRunIds: readonly string[];
}

export async function reclaimLeases(db: Database, options: ReclaimOptions): Promise<Reclaimed> {
  const rows = await db.query<Row>(RECLAIM_LEASES, [
    options.limit,
    options.backoffMs,
    options.maxBackoffMs,
    options.serverGraceMs,
    SERVER_SILENCE_MS,
  ]);
  return {
    runIds: rows.map((row) => row.run_id),
    queues: queuesOf(rows.filter((row) => row.status === 'PENDING')),
    failedRunIds: rows.filter((row) => row.status === 'FAILED').map((row) => row.run_id),
  };
}
