/**
 * Finds out why runs of a namespace do not move, and which have failed. For occasional use by people: every count stops at a
 * limit, so that the time is bounded.
 */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { RunPause } from '../model.js';
import { listDispatchPauses } from './list-dispatch-pauses.js';
import type { Diagnosis } from './queries.js';
import { OPEN_PAUSE, type OpenPauseJson, openPauseOf } from './run-pauses.js';

/** Lateness below this is normal, in ms. */
const LATE_MS = 5_000;

const LATE_RUNS = defineStatement(
  'diagnose_late_runs',
  `with sleepers as (
    select r.wake_at from perdure.workflow_runs r
    where r.namespace = $1 and r.status in ('SLEEPING', 'WAITING') and r.wake_at < perdure.clock() - $2::int * interval '1 ms'
    limit 100000
  ),
  leases as (
    select r.lease_expires_at from perdure.workflow_runs r
    where r.namespace = $1 and r.status = 'RUNNING' and r.lease_expires_at < perdure.clock() - $2::int * interval '1 ms'
    limit 100000
  ),
  losing as (
    (select r.lost_leases from perdure.workflow_runs r
      where r.namespace = $1 and r.status = 'RUNNING' and r.lost_leases > 0 limit 100000)
    union all
    (select p.lost_leases from (select r.lost_leases from perdure.workflow_runs r
      where r.namespace = $1 and r.status = 'PENDING' and r.paused_at is null limit 100000) p where p.lost_leases > 0)
    union all
    (select s.lost_leases from (select r.lost_leases, r.namespace from perdure.workflow_runs r
      where r.wake_at is not null order by r.wake_at limit 100000) s where s.namespace = $1 and s.lost_leases > 0)
  )
  select
    (select count(*)::int from sleepers) as overdue_sleepers,
    (select extract(epoch from perdure.clock() - min(wake_at))::float8 * 1000 from sleepers) as longest_overdue_ms,
    (select count(*)::int from leases) as expired_leases,
    (select extract(epoch from perdure.clock() - min(lease_expires_at))::float8 * 1000 from leases) as longest_expired_ms,
    (select count(*)::int from losing) as runs_losing_leases,
    (select coalesce(max(lost_leases), 0)::int from losing) as most_lost_leases`,
);

const RUNS_WITHOUT_WORKER = defineStatement(
  'diagnose_runs_without_worker',
  `with waiting as (
    select p.task_queue, p.workflow_type, count(*)::int as runs, min(p.available_at) as oldest
    from (select r.task_queue, r.workflow_type, r.available_at from perdure.workflow_runs r
      where r.namespace = $1 and r.status = 'PENDING' and r.paused_at is null limit 100000) p
    group by p.task_queue, p.workflow_type
  ),
  served as (
    select w.*,
      (select count(*)::int from perdure.workers v
        where v.namespace = $1 and v.task_queue = w.task_queue and v.status = 'ONLINE') as workers_online,
      exists (select 1 from perdure.workers v
        where v.namespace = $1 and v.task_queue = w.task_queue and v.status = 'ONLINE'
          and w.workflow_type = any(v.workflow_types)) as executable
    from waiting w
  )
  select task_queue, workflow_type, runs, workers_online,
    (extract(epoch from perdure.clock() - oldest) * 1000)::float8 as oldest_age_ms
  from served
  where not executable
  order by runs desc, task_queue, workflow_type
  limit 100`,
);

const FAILED_RUNS = defineStatement(
  'diagnose_failed_runs',
  `select f.workflow_type, count(*)::int as runs, max(f.finished_at) as newest_at,
    (array_agg(f.run_id order by f.finished_at desc))[1] as newest_run_id
  from (select r.run_id, r.workflow_type, r.finished_at from perdure.workflow_runs r
    where r.namespace = $1 and r.status = 'FAILED' order by r.run_id desc limit 10000) f
  where f.finished_at >= perdure.clock() - $2::float8 * interval '1 ms'
  group by f.workflow_type
  order by runs desc, f.workflow_type
  limit 100`,
);

const PAUSED_RUNS = defineStatement(
  'diagnose_paused_runs',
  `select q.workflow_type, q.failure is not null as held, count(*)::int as runs,
    (array_agg(q.run_id order by q.paused_at desc))[1] as newest_run_id,
    (array_agg(q.pause order by q.paused_at desc))[1] as newest
  from (
    select r.run_id, r.workflow_type, r.paused_at, p.failure, ${OPEN_PAUSE} as pause
    from (select * from perdure.workflow_runs r
      where r.namespace = $1 and r.paused_at is not null and r.finished_at is null order by r.run_id desc limit 10000) r
    left join lateral (select failure from perdure.run_pauses p where p.run_id = r.run_id and p.resumed_at is null limit 1) p on true
  ) q
  group by q.workflow_type, q.failure is not null
  order by held desc, runs desc, q.workflow_type
  limit 100`,
);

interface PausedRow {
  readonly workflow_type: string;
  readonly held: boolean;
  readonly runs: number;
  readonly newest_run_id: string;
  readonly newest: OpenPauseJson;
}
interface LateRow {
  readonly overdue_sleepers: number;
  readonly longest_overdue_ms: number | null;
  readonly expired_leases: number;
  readonly longest_expired_ms: number | null;
  readonly runs_losing_leases: number;
  readonly most_lost_leases: number;
}
interface WithoutWorkerRow {
  readonly task_queue: string;
  readonly workflow_type: string;
  readonly runs: number;
  readonly workers_online: number;
  readonly oldest_age_ms: number;
}
interface FailedRow {
  readonly workflow_type: string;
  readonly runs: number;
  readonly newest_run_id: string;
  readonly newest_at: Date;
}

/** @param recentMs how far back failed runs are counted, in ms */
export async function diagnose(db: Reader, namespace: string, recentMs: number): Promise<Diagnosis> {
  const [late, withoutWorker, failed, paused, pauses] = await Promise.all([
    db.query<LateRow>(LATE_RUNS, [namespace, LATE_MS]),
    db.query<WithoutWorkerRow>(RUNS_WITHOUT_WORKER, [namespace]),
    db.query<FailedRow>(FAILED_RUNS, [namespace, recentMs]),
    db.query<PausedRow>(PAUSED_RUNS, [namespace]),
    listDispatchPauses(db, namespace),
  ]);
  const row = late[0];
  if (row === undefined) throw new Error("Statement 'diagnose_late_runs' answered without a row.");
  return {
    overdueSleepers: row.overdue_sleepers,
    longestOverdueMs: row.longest_overdue_ms ?? 0,
    expiredLeases: row.expired_leases,
    longestExpiredMs: row.longest_expired_ms ?? 0,
    runsLosingLeases: row.runs_losing_leases,
    mostLostLeases: row.most_lost_leases,
    withoutWorker: withoutWorker.map((group) => ({
      taskQueue: group.task_queue,
      workflowType: group.workflow_type,
      runs: group.runs,
      oldestAgeMs: Math.max(0, group.oldest_age_ms),
      workersOnline: group.workers_online,
    })),
    failed: failed.map((group) => ({
      workflowType: group.workflow_type,
      runs: group.runs,
      newestRunId: group.newest_run_id,
      newestAt: group.newest_at,
    })),
    paused: paused.map((group) => ({
      workflowType: group.workflow_type,
      held: group.held,
      runs: group.runs,
      newestRunId: group.newest_run_id,
      newest: openPauseOf(group.newest) as RunPause,
    })),
    pauses,
  };
}
