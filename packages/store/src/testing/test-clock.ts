/**
 * The database's clock under the control of a test. `perdure.clock()` is the only source of time, so a database whose function is
 * replaced lives at another time as a whole. For databases of tests alone: there is no way back.
 */
import type postgres from 'postgres';

/** The function reads a table, so that moving the clock again does not throw away all plans. */
export const INSTALL_TEST_CLOCK = `
  create table public.perdure_test_clock (ahead interval not null);
  insert into public.perdure_test_clock values ('0');
  create or replace function perdure.clock() returns timestamptz language sql stable parallel safe
    as $$ select statement_timestamp() + (select ahead from public.perdure_test_clock) $$;`;

type Sql = Pick<postgres.Sql, 'unsafe'>;

/** Moves the clock and nothing else: what is held by leases expires like everything else. */
export async function moveTestClock(sql: Sql, ms: number): Promise<void> {
  await sql.unsafe('update public.perdure_test_clock set ahead = ahead + $1::float8 * interval \'1 ms\'', [ms]);
}

/**
 * Moves the clock, and takes along what stands for living processes: leases, and when workers, servers and reapers were last seen. So
 * nobody seems to have been silent for as long as the clock was moved. Runs are locked in the order of their ids, as everywhere.
 */
export async function moveTestClockWithProcesses(sql: Sql, ms: number): Promise<void> {
  await sql.unsafe(MOVE_WITH_PROCESSES, [ms]);
}

const MOVE_WITH_PROCESSES = `
  with by as (select $1::float8 * interval '1 ms' as ms),
  clock as (update public.perdure_test_clock set ahead = ahead + (select ms from by)),
  held as materialized (
    select r.run_id from perdure.workflow_runs r where r.status = 'RUNNING' order by r.run_id for no key update
  ),
  leases as (
    update perdure.workflow_runs r set lease_expires_at = r.lease_expires_at + (select ms from by)
    from held h where r.run_id = h.run_id
  ),
  workers as (
    update perdure.workers set last_seen_at = last_seen_at + (select ms from by) where status <> 'OFFLINE'
  ),
  servers as (
    update perdure.servers set last_seen_at = last_seen_at + (select ms from by), alive_since = alive_since + (select ms from by)
  )
  update perdure.reapers set last_seen_at = last_seen_at + (select ms from by)`;
