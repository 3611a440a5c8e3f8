/** The load of the task queues of a namespace. Counts stop at 100,000, so that the time is bounded. */
import type { Reader } from '../database/database.js';
import { defineStatement } from '../database/statement.js';
import type { TaskQueueFacts } from './queries.js';

const LIST_TASK_QUEUES = defineStatement(
  'list_task_queues',
  `with counted as (
    select task_queue, count(*)::int as pending, 0 as running, 0 as sleeping, min(available_at) as oldest
      from (select r.task_queue, r.available_at from perdure.workflow_runs r
        where r.namespace = $1 and r.status = 'PENDING' and r.paused_at is null limit 100000) p group by task_queue
    union all
    select r.task_queue, 0, count(*)::int, 0, null from perdure.workflow_runs r
      where r.namespace = $1 and r.status = 'RUNNING' group by r.task_queue
    union all
    select task_queue, 0, 0, count(*)::int, null
      from (select r.task_queue from perdure.workflow_runs r
        where r.namespace = $1 and r.wake_at is not null limit 100000) s group by task_queue
  ),
  serving as (
    select w.task_queue, count(*)::int as workers_online, sum(w.slots)::int as slots from perdure.workers w
    where w.namespace = $1 and w.status = 'ONLINE' group by w.task_queue
  ),
  summed as (
    select task_queue, sum(pending)::int as pending, sum(running)::int as running, sum(sleeping)::int as sleeping,
      min(oldest) as oldest
    from counted group by task_queue
  )
  select task_queue as name, coalesce(c.pending, 0) as pending, coalesce(c.running, 0) as running,
    coalesce(c.sleeping, 0) as sleeping,
    (extract(epoch from perdure.clock() - c.oldest) * 1000)::float8 as oldest_pending_age_ms,
    coalesce(w.workers_online, 0) as workers_online, coalesce(w.slots, 0) as slots
  from summed c full join serving w using (task_queue)
  order by task_queue
  limit 1000`,
);

interface Row {
  readonly name: string;
  readonly pending: number;
  readonly running: number;
  readonly sleeping: number;
  readonly oldest_pending_age_ms: number | null;
  readonly workers_online: number;
  readonly slots: number;
}

/** @returns queues that have open runs or workers online, by name */
export async function listTaskQueues(db: Reader, namespace: string): Promise<readonly TaskQueueFacts[]> {
  const rows = await db.query<Row>(LIST_TASK_QUEUES, [namespace]);
  return rows.map((row) => ({
    name: row.name,
    pending: row.pending,
    running: row.running,
    sleeping: row.sleeping,
    oldestPendingAgeMs: row.oldest_pending_age_ms === null ? null : Math.max(0, row.oldest_pending_age_ms),
    workersOnline: row.workers_online,
    slots: row.slots,
  }));
}
