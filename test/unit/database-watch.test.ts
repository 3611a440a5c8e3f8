import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DatabaseWatch } from '../../packages/server/dist/database-watch.js';
import { ManualClock, settled } from '../support/manual-clock.js';

/** A watch over a database that is there or not as the test says, with what it logged. */
function watched() {
  const clock = new ManualClock();
  const lines: { event: string; outageMs?: number }[] = [];
  const changes: boolean[] = [];
  const database = { failures: 0, probes: 0 };
  const log = pino({ level: 'debug' }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const watch = new DatabaseWatch({
    log,
    periodMs: 2_000,
    retryMs: 1_000,
    clock,
    probe: async () => {
      database.probes++;
      if (database.failures-- > 0) throw new Error('no database');
    },
    onChange: (available) => changes.push(available),
  });
  return { watch, clock, database, changes, lines, events: () => lines.map(({ event }) => event) };
}

describe('database watch', () => {
  it('the database is available after a successful probe, and nothing is logged', async () => {
    const { watch, changes, events } = watched();
    await watch.start();
    expect([watch.available, changes, events()]).toEqual([true, [true], []]);
    await watch.stop();
  });

  it('one broken connection is not an outage, but the failed statement is logged', async () => {
    const { watch, database, changes, events } = watched();
    await watch.start();
    database.failures = 1;
    watch.suspect(new Error('broken'));
    await settled();
    expect(database.probes).toBe(3);
    expect([watch.available, changes, events()]).toEqual([true, [true], ['database_trouble']]);
    await watch.stop();
  });

  it('logs the beginning and the end of an outage once, however long it is and however much fails in it', async () => {
    const { watch, clock, database, changes, lines, events } = watched();
    await watch.start();
    database.failures = 20;
    for (let n = 0; n < 100; n++) watch.suspect(new Error('broken'));
    await settled();
    expect(watch.available).toBe(false);
    for (let n = 0; n < 100; n++) watch.suspect(new Error('broken'));
    // Two probes each time: the tenth time of looking is the last in vain.
    await clock.advance(9_999);
    expect(watch.available).toBe(false);
    await clock.advance(1);
    expect(watch.available).toBe(true);
    expect(lines.at(-1)?.outageMs).toBe(10_000);
    expect(changes).toEqual([true, false, true]);
    expect(events()).toEqual(['database_trouble', 'database_unavailable', 'database_available']);
    await watch.stop();
  });

  it('probes at its period, at once when a statement had no answer, and tells of failed statements every 10 s at most', async () => {
    const { watch, clock, database, events } = watched();
    await watch.start();
    await clock.advance(6_000);
    expect(database.probes).toBe(4);
    for (let n = 0; n < 30; n++) {
      watch.suspect(new Error('broken'));
      await clock.advance(500);
    }
    expect(database.probes).toBe(34);
    expect(events()).toEqual(['database_trouble', 'database_trouble']);
    await watch.stop();
    expect(clock.nextInMs).toBeUndefined();
  });

  it('says nothing after it was stopped', async () => {
    const { watch, database, changes } = watched();
    database.failures = Number.POSITIVE_INFINITY;
    const started = watch.start();
    await watch.stop();
    await started;
    expect(changes).toEqual([]);
  });
});
