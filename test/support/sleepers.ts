import type { TestPerdure } from './perdure.js';
import { until } from './until.js';

/** A reaper for tests that move the clock by hours: it looks often, and takes no worker for silent because of the jump. */
export const CLOCK_MOVING_REAPER = { maxSleepMs: 50, minWorkerSilenceMs: 20 * 86_400_000 } as const;

/** The time of the test itself is the limit. */
const PATIENCE_MS = 600_000;

/**
 * Moves the database's clock past the end of the runs' present sleep, once all of them sleep, and resolves when they are awake.
 * Sleeps in tests are long, so that nothing but this ends them. Leases of other runs may expire.
 *
 * @returns for how long, in ms, the last of them would have slept on
 */
export async function endSleep({ database }: TestPerdure, ...runIds: readonly string[]): Promise<number> {
  const ids = [...runIds];
  const before = await until(
    `${runIds.length} runs to sleep`,
    async () => {
      const rows = await database.sql<{ run_id: string; lease_token: number; left_ms: number }[]>`
      select run_id, lease_token, ceil(extract(epoch from wake_at - perdure.clock()) * 1000)::float8 as left_ms
      from perdure.workflow_runs where run_id in ${database.sql(ids)} and status in ('SLEEPING', 'WAITING') and wake_at is not null`;
      return rows.length === runIds.length && rows;
    },
    PATIENCE_MS,
  );
  const leftMs = Math.max(...before.map(({ left_ms }) => left_ms));
  await database.advanceClock(Math.max(0, leftMs) + 1);
  const tokens = new Map(before.map(({ run_id, lease_token }) => [run_id, lease_token]));
  await until(
    `${runIds.length} runs to be awake`,
    async () => {
      const asleep = await database.sql<{ run_id: string; lease_token: number }[]>`
      select run_id, lease_token from perdure.workflow_runs where run_id in ${database.sql(ids)} and status in ('SLEEPING', 'WAITING') and wake_at is not null`;
      // One that sleeps under another lease has been awake in between.
      return !asleep.some(({ run_id, lease_token }) => tokens.get(run_id) === lease_token);
    },
    PATIENCE_MS,
  );
  return leftMs;
}
