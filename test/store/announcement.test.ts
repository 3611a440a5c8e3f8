import type { Database } from '@perdure/store';
import { pino } from 'pino';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Announcement } from '../../packages/reaper/dist/announcement.js';
import { ManualClock } from '../support/manual-clock.js';
import { openTestStore, type TestStore } from '../support/store.js';
import { until } from '../support/until.js';

describe('the announcement of a reaper', () => {
  let store: TestStore;
  let clock: ManualClock;
  let reaperId: string;
  let sent: number;
  let answered: number;
  beforeAll(async () => {
    store = await openTestStore();
  });
  afterAll(() => store.stop());
  beforeEach(() => {
    clock = new ManualClock();
    reaperId = uuid();
    sent = 0;
    answered = 0;
  });

  const announce = () => {
    const query: Database['query'] = async (...call) => {
      sent++;
      const rows = await store.db.query(...call);
      answered++;
      return rows as never;
    };
    const db = { ...store.db, query };
    return new Announcement({ db, log: pino({ level: 'silent' }), reaperId, maxSleepMs: 1_000, clock });
  };
  const isListed = async () => {
    const rows = await store.database.sql`select 1 from perdure.reapers where reaper_id = ${reaperId}`;
    return rows.length === 1;
  };
  const pass = async (ms: number) => {
    await clock.advance(ms);
    await until('all to be answered', () => answered === sent);
  };

  it('is made at once, again every 2 s, and taken back when the reaper stops', async () => {
    const announcement = announce();
    await pass(0);
    expect(await isListed()).toBe(true);
    for (let n = 1; n <= 3; n++) {
      await pass(1_999);
      expect(sent).toBe(n);
      announcement.onRound();
      await pass(1);
      expect(sent).toBe(n + 1);
    }
    await announcement.stop();
    expect(await isListed()).toBe(false);
    expect(clock.nextInMs).toBeUndefined();
  });

  it('is not made for a reaper whose loop has been stuck for 10 s beyond its longest sleep, until it comes round', async () => {
    const announcement = announce();
    await pass(0);
    for (let n = 0; n < 10; n++) await pass(2_000);
    // At 2, 4, 6, 8 and 10 s.
    expect(sent).toBe(6);
    announcement.onRound();
    await pass(2_000);
    expect(sent).toBe(7);
    await announcement.stop();
  });
});
