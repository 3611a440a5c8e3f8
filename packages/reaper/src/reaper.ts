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
  /** Waits for the current sweep, then ends all connections. */
  stop(): Promise<void>;
}

/** Sleeping runs that fall due within this time of each other are woken together. */
const MIN_PERIOD_MS = 5;
/** Shortest time between two sweeps of leases and deadlines, in ms. */
const MIN_EXPIRY_PERIOD_MS = 100;
const RETRY_MAX_MS = 2_000;

/**
 * Starts a reaper: wakes due runs, reclaims expired leases, ends runs and attempts past their deadline, marks silent workers
 * OFFLINE. Any number of reapers may run; each sweep locks its rows with SKIP LOCKED. A reaper holds no state: a kill at any
 * moment loses nothing, because each sweep is one statement.
 *
 * Between sweeps it sleeps until the next due time that it knows, a notification from a server, or `maxSleepMs`.
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

  const expiresIn = (inMs: number) => {
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
        if (note?.expiryInMs != null) expiresIn(note.expiryInMs);
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
        announcement.onRound();
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
        // Log only the beginning and the end of an outage.
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
