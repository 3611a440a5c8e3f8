/**
 * The database's clock under the control of a test. `perdure.clock()` is the only source of time, so a database whose function is
 * replaced lives at another time as a whole. For databases of tests alone: there is no way back.
 */
import type postgres from 'postgres';

/**
 * The function reads a table, so that moving the clock again does not throw away all plans. It is PL/pgSQL because PostgreSQL cannot inline an
 * SQL function with a subquery: each of the dozens of calls in a statement would take 17 µs instead of 7.
 */
export const INSTALL_TEST_CLOCK = `
  create table public.perdure_test_clock (ahead interval not null) with (fillfactor = 10);
  insert into public.perdure_test_clock values ('0');
  create or replace function perdure.clock() returns timestamptz language plpgsql stable parallel safe
    as $$ begin return statement_timestamp() + (select ahead from public.perdure_test_clock); end $$;`;

type Sql = Pick<postgres.Sql, 'unsafe'>;

/** Moves the clock and nothing else: what is held by leases expires like everything else. */
export async function moveTestClock(sql: Sql, ms: number): Promise<void> {
  await sql.unsafe("update public.perdure_test_clock set ahead = ahead + $1::float8 * interval '1 ms'", [ms]);
}
