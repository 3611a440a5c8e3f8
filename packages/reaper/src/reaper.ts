import { monotonicClock, pause } from '@perdure/clock';
import { createLogger } from '@perdure/logging';
import {
  DatabaseUnavailableError,
  decodeTimers,
  type Listener,
  newSenderId,
  nextExpiryMs,
  nextWakeMs,
  openDatabase,
  TIMERS_CHANNEL,
} from '@perdure/store';
import type { Logger } from 'pino';
import { Alarm } from './alarm.js';
import { Announcement } from './announcement.js';
import type { ReaperConfig } from './config.js';
import { type SweepContext, sweepExpired, sweepSleepers } from './sweeps.js';

/** A running reaper. */
export interface Reaper {
  /** Lets the sweep under way finish, then ends all connections. */
  stop(): Promise<void>;
}

/** Sleepers that fall due within this time of each other are woken together. */
const MIN_PERIOD_MS = 5;
/** Leases and deadlines are looked at no more often than this, in ms. */
const MIN_EXPIRY_PERIOD_MS = 100;
const RETRY_MAX_MS = 2_000;

/**
 * Starts a reaper: wakes due sleepers, takes back expired leases, ends what is past its deadline, marks silent workers.
 * Any number of them may run; each sweep locks what it takes with SKIP LOCKED. It holds no state: a kill at any moment
 * loses nothing, since each sweep is one statement.
 *
 * Between looks it sleeps until the next due time that it knows of, a hint from a server, or `maxSleepMs`.
 */
export function startReaper(config: ReaperConfig, options: { readonly logger?: Logger } = {}): Reaper {
  const log = options.logger ?? createLogger({ name: 'perdure-reaper', level: config.logLevel });
  const db = openDatabase({
    url: config.databaseUrl,
    maxConnections: 2,
    preparedStatements: config.preparedStatements,
    startupParameters: config.startupParameters,
    applicationName: 'perdure-reaper',
  });
  const clock = monotonicClock;
  const context: SweepContext = { db, config, log, reaperId: newSenderId() };
  const announcement = new Announcement({ db, log, reaperId: context.reaperId, maxSleepMs: config.maxSleepMs, clock });
  const alarm = new Alarm(clock);
  let stopped = false;
  let expiryAtMs = 0;

  const hintExpiry = (inMs: number) => {
    expiryAtMs = Math.min(expiryAtMs, clock.nowMs() + Math.max(inMs, 0));
    alarm.setIn(inMs);
  };

  let listener: Listener | undefined;
  if (config.wakeup === 'notify') {
    listener = db.listen({
      channel: TIMERS_CHANNEL,
      onPayload: (payload) => {
        const note = decodeTimers(payload);
        if (note?.wakeInMs != null) alarm.setIn(note.wakeInMs);
        if (note?.expiryInMs != null) hintExpiry(note.expiryInMs);
      },
      onListening: () => alarm.ring(),
      onInterrupted: (error) => log.warn({ event: 'listen_interrupted', message: error.message }),
    });
  }

  const look = async (): Promise<number> => {
    const more = await sweepSleepers(context);
    let expiryInMs = expiryAtMs - clock.nowMs();
    if (expiryInMs <= 0) {
      const moreExpired = await sweepExpired(context);
      const nextInMs = moreExpired ? 0 : ((await nextExpiryMs(db)) ?? Number.POSITIVE_INFINITY);
      expiryInMs = Math.min(Math.max(nextInMs, MIN_EXPIRY_PERIOD_MS), config.maxSleepMs);
      expiryAtMs = clock.nowMs() + expiryInMs;
    }
    const wakeInMs = more ? 0 : ((await nextWakeMs(db)) ?? Number.POSITIVE_INFINITY);
    return Math.min(Math.max(wakeInMs, MIN_PERIOD_MS), expiryInMs, config.maxSleepMs);
  };

  const loop = async () => {
    let retryMs = 0;
    let failedAtMs: number | undefined;
    while (!stopped) {
      try {
        const sleepMs = await look();
        announcement.looked();
        if (failedAtMs !== undefined) {
          log.info({ event: 'database_available', outageMs: Math.round(clock.nowMs() - failedAtMs) });
        }
        failedAtMs = undefined;
        retryMs = 0;
        if (!stopped) await alarm.sleep(sleepMs);
        // Hints may come in a stream; they must not turn into a look each.
        if (!stopped) await pause(clock, MIN_PERIOD_MS);
      } catch (error) {
        if (stopped) return;
        // Of an outage only the beginning and the end are news.
        if (!(error instanceof DatabaseUnavailableError)) log.error({ event: 'sweep_failed', err: error });
        else if (failedAtMs === undefined) {
          failedAtMs = clock.nowMs();
          log.error({ event: 'database_unavailable', message: error.message });
        }
        retryMs = Math.min(Math.max(retryMs * 2, 100), RETRY_MAX_MS);
        await alarm.sleep(retryMs * (0.5 + Math.random() / 2));
      }
    }
  };
  const done = loop();
  log.info({ event: 'reaper_started', reaperId: context.reaperId });

  return {
    async stop() {
      stopped = true;
      alarm.ring();
      await Promise.all([done, listener?.stop()]);
      await announcement.stop();
      await db.close();
      log.info({ event: 'reaper_stopped' });
    },
  };
}
