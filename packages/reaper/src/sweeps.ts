import {
  type Database,
  encodeFinished,
  encodeWakeup,
  expireRuns,
  expireSteps,
  FINISHED_CHANNEL,
  type QueueRef,
  reclaimLeases,
  retireStaleWorkers,
  WAKEUP_CHANNEL,
  wakeSleepers,
} from '@perdure/store';
import type { Logger } from 'pino';
import type { ReaperConfig } from './config.js';

/** What the sweeps need; `reaperId` marks our notifications. */
export interface SweepContext {
  readonly db: Database;
  readonly config: ReaperConfig;
  readonly log: Logger;
  readonly reaperId: string;
}

/** Wakes one batch of due sleepers. @returns true when there may be more */
export async function sweepSleepers(context: SweepContext): Promise<boolean> {
  const { woken, queues } = await wakeSleepers(context.db, { limit: context.config.batchSize });
  if (woken > 0) context.log.debug({ event: 'runs_woken', runs: woken });
  await tell(context, queues, []);
  return woken >= context.config.batchSize;
}

/** Reclaims expired leases and ends what is past its deadline, one batch each. @returns true when there may be more */
export async function sweepExpired(context: SweepContext): Promise<boolean> {
  const { db, config, log } = context;
  const limit = config.batchSize;
  // Deadlines first: a run that is past one ends, and is not handed to another worker before.
  const timedOut = await expireRuns(db, { limit });
  if (timedOut.length > 0) log.info({ event: 'runs_timed_out', runIds: timedOut });
  const stuck = await expireSteps(db, { limit });
  if (stuck.taken > 0) log.warn({ event: 'steps_timed_out', runs: stuck.taken });
  const reclaimed = await reclaimLeases(db, {
    limit,
    backoffMs: config.reclaimBackoffMs,
    maxBackoffMs: config.maxReclaimBackoffMs,
    serverGraceMs: config.serverGraceMs,
  });
  if (reclaimed.runIds.length > 0) log.warn({ event: 'leases_reclaimed', runIds: reclaimed.runIds });
  if (reclaimed.failedRunIds.length > 0) log.error({ event: 'runs_given_up', runIds: reclaimed.failedRunIds });
  const silent = await retireStaleWorkers(db, { minSilenceMs: config.minWorkerSilenceMs });
  if (silent.length > 0) log.warn({ event: 'workers_offline', workerIds: silent });
  await tell(context, [...stuck.queues, ...reclaimed.queues], [...timedOut, ...reclaimed.failedRunIds]);
  return timedOut.length >= limit || stuck.taken >= limit || reclaimed.runIds.length >= limit;
}

async function tell(context: SweepContext, queues: readonly QueueRef[], ended: readonly string[]): Promise<void> {
  if (context.config.wakeup === 'poll') return;
  for (const payload of encodeWakeup({ from: context.reaperId, queues })) {
    await context.db.notify(WAKEUP_CHANNEL, payload);
  }
  for (const payload of encodeFinished({ from: context.reaperId, runIds: ended })) {
    await context.db.notify(FINISHED_CHANNEL, payload);
  }
}
