import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { DatabaseWatch } from '../../packages/server/dist/database-watch.js';
import { until } from '../support/until.js';

/** A watch over a database that is there or not as the test says, with what it logged. */
function watched() {
  const lines: { event: string; outageMs?: number }[] = [];
  const changes: boolean[] = [];
  const database = { failures: 0, probes: 0 };
  const log = pino({ level: 'debug' }, { write: (line: string) => lines.push(JSON.parse(line)) });
  const watch = new DatabaseWatch({
    log,
    periodMs: 60_000,
    retryMs: 5,
    probe: async () => {
      database.probes++;
      if (database.failures-- > 0) throw new Error('no database');
    },
    onChange: (available) => changes.push(available),
  });
  return { watch, database, changes, events: () => lines.map(({ event }) => event) };
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
    await until('the second try', () => database.probes === 3);
    expect([watch.available, changes, events()]).toEqual([true, [true], ['database_trouble']]);
    await watch.stop();
  });

  it('the beginning and the end of an outage are logged once, for any length and number of failures', async () => {
    const { watch, database, changes, events } = watched();
    await watch.start();
    database.failures = 20;
    for (let n = 0; n < 100; n++) watch.suspect(new Error('broken'));
    await until('the outage', () => !watch.available);
    for (let n = 0; n < 100; n++) watch.suspect(new Error('broken'));
    await until('its end', () => watch.available);
    expect(changes).toEqual([true, false, true]);
    expect(events()).toEqual(['database_trouble', 'database_unavailable', 'database_available']);
    await watch.stop();
  });

  it('a stopped watch logs nothing', async () => {
    const { watch, database, changes } = watched();
    database.failures = Number.POSITIVE_INFINITY;
    const started = watch.start();
    await watch.stop();
    await started;
    expect(changes).toEqual([]);
  });
});
