/** Statements for databases of tests; they use the clock's table, so they are not among the store's own. */
import { WAKE_SLEEPERS } from '../sweeps/wake-sleepers.js';
import { TIMERS_CHANNEL } from '../wakeup/channels.js';

/** A timer must be due when its time is reached, whatever was rounded, in ms. */
const BEYOND_MS = 0.01;

/** More than any test has. */
const MAX_WOKEN = 10_000;

const STANDSTILL = `
  unserved as (
    select distinct r.namespace, r.task_queue, r.workflow_type from perdure.workflow_runs r
    where r.status = 'PENDING' and not exists (
      select 1 from perdure.workers w
      where w.namespace = r.namespace and w.task_queue = r.task_queue and r.workflow_type = any (w.workflow_types)
        and w.status = 'ONLINE')
  ),
  standstill as (
    select
      (select count(*)::int from perdure.workflow_runs r where r.status = 'RUNNING') as running,
      exists (select 1 from perdure.workflow_runs r where r.status = 'PENDING' and not exists (
        select 1 from unserved u
        where u.namespace = r.namespace and u.task_queue = r.task_queue and u.workflow_type = r.workflow_type))
      or exists (select 1 from perdure.child_ends)
      or exists (select 1 from perdure.workflow_runs r where r.has_children and r.finished_at is not null)
      or exists (select 1 from perdure.events e where not e.is_spread) as moving,
      (extract(epoch from least(
        (select min(r.wake_at) from perdure.workflow_runs r where r.wake_at is not null and r.status in ('SLEEPING', 'WAITING')),
        (select min(r.deadline_at) from perdure.workflow_runs r where r.deadline_at is not null and r.finished_at is null)
      ) - perdure.clock()) * 1000)::float8 as due_in_ms,
      exists (select 1 from perdure.workflow_runs r
        where r.finished_at is null and (r.run_id in (select jsonb_array_elements_text($1::text::jsonb -> 'runIds')::uuid)
          or r.first_run_id in (select coalesce(a.first_run_id, a.run_id) from perdure.workflow_runs a
            where a.run_id in (select jsonb_array_elements_text($1::text::jsonb -> 'runIds')::uuid))
          or r.workflow_id in (select jsonb_array_elements_text($1::text::jsonb -> 'workflowIds'))))
      or exists (select 1 from perdure.run_updates u
        where u.answer is null and u.request_id in (select jsonb_array_elements_text($1::text::jsonb -> 'requestIds')))
      or ($1::text::jsonb -> 'facts')::boolean as awaited,
      (select jsonb_agg(jsonb_build_object('namespace', namespace, 'taskQueue', task_queue, 'workflowType', workflow_type))
        from unserved) as unserved
  )`;

export const LOOK = `with ${STANDSTILL} select * from standstill`;

/**
 * When everything waits: moves the clock to the next due time, and wakes what is due; in one statement, because a test may
 * skip thousands of times. No run is held then, so no lease has to move along. Not by EXECUTE, which would plan it anew each time.
 */
export const INSTALL_SKIP = `
  create function public.perdure_test_skip(awaited_runs text, ignore_unserved boolean)
  returns table (running integer, moving boolean, due_in_ms float8, awaited boolean, unserved jsonb, moved boolean, woken jsonb)
  language plpgsql volatile as $skip$
  #variable_conflict use_column
  declare
    s record;
    queue record;
    queues jsonb := '[]';
    has_moved boolean;
    further interval;
  begin
    with ${STANDSTILL} select * into s from standstill;
    has_moved := s.running = 0 and not s.moving and s.due_in_ms is not null and s.awaited
      and (s.unserved is null or ignore_unserved);
    if has_moved then
      further := (greatest(0, s.due_in_ms) + ${BEYOND_MS}) * interval '1 ms';
      update public.perdure_test_clock set ahead = ahead + further;
      update perdure.workers set last_seen_at = last_seen_at + further where status <> 'OFFLINE';
      for queue in ${WAKE_SLEEPERS.text.replace('$1', String(MAX_WOKEN))} loop
        queues := queues || jsonb_build_array(jsonb_build_object('namespace', queue.namespace, 'taskQueue', queue.task_queue));
      end loop;
      -- What fell due is not a sleeper: a deadline, for the reaper.
      if queues = '[]' then perform pg_notify('${TIMERS_CHANNEL}', '{"wakeInMs":0,"expiryInMs":0}'); end if;
    end if;
    return query select s.running, s.moving, s.due_in_ms, s.awaited, s.unserved, has_moved, queues;
  end $skip$`;

export const SKIP = 'select * from public.perdure_test_skip($1, $2)';

/**
 * Takes along what stands for living processes: leases, and when workers, servers and reapers were last seen. So nobody seems to have
 * been silent for as long as the clock was moved. Runs are locked in the order of their ids, as everywhere.
 */
export const MOVE_WITH_PROCESSES = `
  with by as (select $1::float8 * interval '1 ms' as ms),
  clock as (update public.perdure_test_clock set ahead = ahead + (select ms from by)),
  held as materialized (
    select r.run_id from perdure.workflow_runs r where r.status = 'RUNNING' order by r.run_id for no key update
  ),
  leases as (
    update perdure.workflow_runs r set lease_expires_at = r.lease_expires_at + (select ms from by)
    from held h where r.run_id = h.run_id and r.status = 'RUNNING'
  ),
  servers as (
    update perdure.servers set last_seen_at = last_seen_at + (select ms from by), alive_since = alive_since + (select ms from by)
  ),
  reapers as (update perdure.reapers set last_seen_at = last_seen_at + (select ms from by))
  update perdure.workers set last_seen_at = last_seen_at + (select ms from by) where status <> 'OFFLINE'`;

export const EXPIRE_LEASES = `
  with dropped as materialized (
    select r.run_id from perdure.workflow_runs r
    join jsonb_to_recordset($1::text::jsonb) as l(run_id uuid, lease_token int)
      on l.run_id = r.run_id and l.lease_token = r.lease_token
    where r.status = 'RUNNING' order by r.run_id for no key update of r
  )
  update perdure.workflow_runs r set lease_expires_at = perdure.clock() - interval '1 s'
  from dropped d where r.run_id = d.run_id`;
