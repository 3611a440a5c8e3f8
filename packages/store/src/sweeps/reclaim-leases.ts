/**
 * Reclaims runs whose lease has expired: attempt + 1, open attempts closed as WORKER_LOST.
 *
 * The first loss makes the run claimable at once; further ones in a row, with no step completed under the lost lease,
 * wait for a backoff that doubles. A run that kills every worker must not do so forever, and its neighbours must not be blamed: a
 * loss counts towards `max_lost_leases` only for the run that had lost the most workers before, among all that were lost with this
 * worker (decision 0014). A run that reaches the limit ends as FAILED. The same holds for a run that is being cancelled: its
 * clean-up has not ended, so it does not become CANCELLED.
 *
 * What is known of each lost worker is noted (`lost_leases`), and told with the failure of a run that ends. An attempt that began while this waited
 * for the run's lock is closed too, but not among the steps that are noted.
 *
 * Runs of one worker may expire in different sweeps: this statement reads those that it still holds; its row remembers those that
 * were reclaimed before.
 *
 * After an outage, leases of live workers have expired only because no server could renew them. So no lease is reclaimed until a
 * server has been alive for `serverGraceMs` without a gap.
 */
import type { Database } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { QueueRef } from '../model.js';
import { SERVER_SILENCE_MS } from '../transitions/announce-servers.js';
import { queuesOf } from './queues.js';

/** Lost leases of a run that are kept, and told with its failure. */
const MAX_KEPT = 20;

const RECLAIM_LEASES = defineStatement(
  'reclaim_leases',
  `with expired as materialized (
    select r.run_id, r.counted_losses, r.max_lost_leases, r.cancel_requested_at, r.leased_by, r.lease_token, r.lease_expires_at
    from perdure.workflow_runs r
    where r.status = 'RUNNING' and r.lease_expires_at < perdure.clock()
      and ($4::bigint = 0 or exists (
        select 1 from perdure.servers v
        where v.last_seen_at >= perdure.clock() - $5::int * interval '1 ms'
          and v.alive_since <= perdure.clock() - $4::bigint * interval '1 ms'))
    limit $1
    for no key update of r skip locked
  ),
  held as (
    select r.run_id, r.leased_by,
      case when r.lost_leases = 0 or exists (
        select 1 from perdure.step_runs s
        where s.run_id = r.run_id and s.lease_token = r.lease_token and s.status = 'COMPLETED' and s.attempt_key = 0
      ) then 0 else r.lost_leases end as earlier
    from perdure.workflow_runs r
    where r.status = 'RUNNING' and r.leased_by in (select leased_by from expired)
  ),
  compared as (
    select run_id, earlier, rank() over (partition by leased_by order by earlier desc) as place,
      count(*) over (partition by leased_by, earlier) as equals
    from held
  ),
  loser as materialized (
    select w.worker_id, w.lost_run_losses, w.identity, w.build, w.last_seen_at, w.lease_ms from perdure.workers w
    where w.worker_id in (select leased_by from expired)
    order by w.worker_id
    for no key update
  ),
  counted as (
    select e.*, c.earlier, c.earlier + 1 as losses, coalesce(w.identity, '') as identity, coalesce(w.build, '') as build,
      greatest(w.last_seen_at, e.lease_expires_at - coalesce(w.lease_ms, 30000) * interval '1 ms') as last_seen_at,
      array(select s.step_id from perdure.step_runs s
        where s.run_id = e.run_id and s.attempt_key = 0 and s.status = 'RUNNING' and s.kind <> 'SLEEP' and s.awaits is null
        order by s.seq limit 10) as open_steps,
      case when c.earlier = 0 then 0 else e.counted_losses end
        + case when c.place = 1 and c.equals = 1 and c.earlier > coalesce(w.lost_run_losses, -1) then 1 else 0 end as counting,
      c.place = 1 and c.equals = 1 and c.earlier > coalesce(w.lost_run_losses, -1) as is_counted
    from expired e
    join compared c on c.run_id = e.run_id
    left join loser w on w.worker_id = e.leased_by
  ),
  judged as (
    select c.*,
      case when c.counting >= c.max_lost_leases then 'FAILED' when c.losses = 1 then 'PENDING' else 'SLEEPING' end as next_status,
      least($2::float8 * 2.0 ^ least(c.losses - 2, 30), $3::float8) as backoff_ms
    from counted c
  ),
  noted as (
    insert into perdure.lost_leases (run_id, lease_token, worker_id, worker_identity, build, last_seen_at, lost_at, open_steps, counted)
    select j.run_id, j.lease_token, j.leased_by, j.identity, j.build, j.last_seen_at, perdure.clock(), j.open_steps, j.is_counted
    from judged j
    on conflict do nothing
    returning 1
  ),
  -- With the one that is inserted now, the latest ${MAX_KEPT} stay.
  forgotten as (
    delete from perdure.lost_leases l
    using judged j
    where l.run_id = j.run_id and l.lease_token <= (
      select x.lease_token from perdure.lost_leases x where x.run_id = j.run_id order by x.lease_token desc offset ${MAX_KEPT - 1} limit 1)
    returning 1
  ),
  remembered as (
    update perdure.workers w
    set lost_run_losses = greatest(w.lost_run_losses, j.most)
    from (select leased_by, max(earlier) as most from judged group by leased_by) j
    where w.worker_id = j.leased_by
    returning 1
  ),
  reclaimed as (
    update perdure.workflow_runs r
    set status = j.next_status, yield_reason = 'RECLAIM', lost_leases = j.losses, counted_losses = j.counting,
      attempt = r.attempt + case when j.next_status = 'FAILED' then 0 else 1 end,
      available_at = case when j.next_status = 'PENDING' then perdure.clock() end,
      wake_at = case when j.next_status = 'SLEEPING' then perdure.clock() + j.backoff_ms * interval '1 ms' end,
      finished_at = case when j.next_status = 'FAILED' then perdure.clock() end,
      compensation = case when j.next_status = 'FAILED' and r.compensation = 'COMPENSATING' then 'PARTIAL' else r.compensation end,
      failure = case when j.next_status = 'FAILED' then jsonb_build_object('type', 'TooManyLostLeasesError',
        'reason', 'TOO_MANY_LOST_LEASES', 'message', format(
          'The run lost its worker %s times in a row without completing a step in between; the last one was %s%s.%s',
          j.losses, coalesce(nullif(j.identity, '') || ' (' || j.leased_by || ')', j.leased_by::text),
          case when j.open_steps = '{}' then '' else ', which executed step ' || array_to_string(j.open_steps, ', ') end,
          case when j.cancel_requested_at is null then '' else ' It was being cancelled; its clean-up may not be complete.' end),
        -- Those in a row; this one is not in the table yet.
        'lostLeases', coalesce(perdure.lost_leases_of(j.run_id, least(j.losses, ${MAX_KEPT}) - 1), '[]') || jsonb_build_array(
          jsonb_build_object('leaseToken', j.lease_token, 'workerId', j.leased_by, 'workerIdentity', j.identity, 'build', j.build,
            'lastSeenAt', j.last_seen_at, 'lostAt', perdure.clock(), 'openSteps', to_jsonb(j.open_steps), 'counted', j.is_counted)))
        || case when r.failure is null then '{}'::jsonb else jsonb_build_object('cause', r.failure) end
        else r.failure end,
      leased_by = null, lease_expires_at = null, updated_at = perdure.clock()
    from judged j
    where r.run_id = j.run_id
    returning r.run_id, r.namespace, r.task_queue, r.status, r.parent_run_id
  ),
  untold as (
    insert into perdure.child_ends (child_id, ended_at) select run_id, perdure.clock() from reclaimed where status = 'FAILED' and parent_run_id is not null
    on conflict do nothing
  )
  select run_id, namespace, task_queue, status, 1 as runs,
    perdure.lose_open_steps(run_id, 'The worker that ran this attempt died or stalled past its lease.') as lost,
    case when status = 'FAILED' then perdure.cancel_open_steps(run_id) end as closed
  from reclaimed`,
);

interface Row {
  readonly run_id: string;
  readonly namespace: string;
  readonly task_queue: string;
  readonly status: 'PENDING' | 'SLEEPING' | 'FAILED';
  readonly runs: number;
}

export interface ReclaimOptions {
  /** Most runs in this sweep. */
  readonly limit: number;
  /** Backoff after the second loss in a row, in ms. */
  readonly backoffMs: number;
  /** Longest backoff, in ms. */
  readonly maxBackoffMs: number;
  /** How long a server must have been alive, in ms; 0: servers are not checked. */
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
