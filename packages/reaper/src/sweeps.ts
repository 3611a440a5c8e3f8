import {
  clearSuspects,
  closeChildren,
  type Database,
  ENDED_CHANNEL,
  encodeEnded,
  encodeNotices,
  encodeWakeup,
  expireRuns,
  expireSteps,
  forgetEvents,
  type QueueRef,
  type ReachedRun,
  reclaimLeases,
  retireStaleWorkers,
  spreadEvents,
  tellParents,
  unclosedParents,
  untoldChildren,
  WAKEUP_CHANNEL,
  wakeSleepers,
} from '@perdure/store';
import type { Logger } from 'pino';
import type { ReaperConfig } from './config.js';

/** What the sweeps need; `reaperId` marks the notifications of this reaper. */
export interface SweepContext {
  readonly db: Database;
  readonly config: ReaperConfig;
  readonly log: Logger;
  readonly reaperId: string;
}

/** Wakes one batch of due runs. @returns true when there may be more */
export async function sweepSleepers(context: SweepContext): Promise<boolean> {
  const { woken, queues } = await wakeSleepers(context.db, { limit: context.config.batchSize });
  if (woken > 0) context.log.debug({ event: 'runs_woken', runs: woken });
  await notifyServers(context, queues, []);
  return woken >= context.config.batchSize;
}

/** Reclaims expired leases and ends runs and attempts past their deadline, one batch each. @returns true when there may be more */
export async function sweepExpired(context: SweepContext): Promise<boolean> {
  const { db, config, log } = context;
  const limit = config.batchSize;
  // Deadlines first: a run past its deadline ends instead of being claimed by another worker.
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
  const proven = await clearSuspects(db, { limit });
  if (proven.cleared > 0) log.debug({ event: 'suspects_cleared', runs: proven.cleared });
  const silent = await retireStaleWorkers(db, { minSilenceMs: config.minWorkerSilenceMs });
  if (silent.length > 0) log.warn({ event: 'workers_offline', workerIds: silent });
  const ended = [...timedOut, ...reclaimed.failedRunIds];
  await notifyServers(context, [...stuck.queues, ...reclaimed.queues, ...proven.queues], ended);
  const moreRelatives = await sweepRelatives(context, ended);
  const moreEvents = await sweepEvents(context);
  return (
    timedOut.length >= limit || stuck.taken >= limit || reclaimed.runIds.length >= limit || moreRelatives || moreEvents
  );
}

/** Ends that are younger, in ms, are passed on by the server that recorded them. */
const PASSED_ON_MS = 1_000;

/**
 * Tells the parents and closes the children of runs that have ended: those that ended now, and those whose server did not do it.
 *
 * @returns true when there may be more
 */
async function sweepRelatives(context: SweepContext, ended: readonly string[]): Promise<boolean> {
  const { db, config, log } = context;
  const left = { limit: config.batchSize, minAgeMs: PASSED_ON_MS };
  const untold = await untoldChildren(db, left);
  const parents = await tellParents(db, [...ended, ...untold]);
  const unclosed = await unclosedParents(db, left);
  const closed = await closeChildren(db, [...ended, ...unclosed]);
  if (untold.length > 0 || unclosed.length > 0) {
    log.info({ event: 'relatives_found', untold: untold.length, unclosed: unclosed.length });
  }
  await notifyReached(
    context,
    parents.flatMap(({ effect, ...parent }) => (effect.kind === 'wakes' ? [] : [{ ...parent, effect }])),
  );
  const cancelled = closed.flatMap(({ namespace, outcome }) =>
    outcome.kind === 'requested' && outcome.status === 'PENDING' ? [{ namespace, taskQueue: outcome.taskQueue }] : [],
  );
  const endedNow = closed.filter(({ outcome }) => outcome.kind === 'cancelled' || outcome.kind === 'terminated');
  await notifyServers(
    context,
    cancelled,
    endedNow.map(({ runId }) => runId),
  );
  return untold.length >= config.batchSize || unclosed.length >= config.batchSize;
}

/** Continues events whose server died before they had reached every wait, and deletes those that are kept no longer, one batch each. */
async function sweepEvents(context: SweepContext): Promise<boolean> {
  const { db, config, log } = context;
  const spread = await spreadEvents(db);
  if (spread.reached.length > 0) log.info({ event: 'events_spread', runs: spread.reached.length });
  await notifyReached(context, spread.reached);
  const forgotten = await forgetEvents(db, { limit: config.batchSize });
  if (forgotten.events > 0) log.debug({ event: 'events_forgotten', events: forgotten.events });
  return spread.hasMore || forgotten.hasMore;
}

/** Something has come for runs: queues that have claimable ones, workers that hold others. */
async function notifyReached(context: SweepContext, reached: readonly ReachedRun[]): Promise<void> {
  if (context.config.wakeup === 'poll') return;
  await notifyServers(
    context,
    reached.flatMap(({ effect }) => (effect.kind === 'woken' ? [effect.queue] : [])),
    [],
  );
  const notices = reached.flatMap(({ namespace, runId, effect }) =>
    effect.kind === 'arrived' ? [{ kind: 'arrived' as const, namespace, runId, ...effect.holder }] : [],
  );
  for (const payload of encodeNotices({ from: context.reaperId, notices })) {
    await context.db.notify(WAKEUP_CHANNEL, payload);
  }
}

async function notifyServers(
  context: SweepContext,
  queues: readonly QueueRef[],
  ended: readonly string[],
): Promise<void> {
  if (context.config.wakeup === 'poll') return;
  for (const payload of encodeWakeup({ from: context.reaperId, queues })) {
    await context.db.notify(WAKEUP_CHANNEL, payload);
  }
  for (const payload of encodeEnded({ from: context.reaperId, runIds: ended })) {
    await context.db.notify(ENDED_CHANNEL, payload);
  }
}
