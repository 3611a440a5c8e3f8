import { type ConfigOf, databaseOptions, defineOptions, logOptions } from '@perdure/config';

/** The options of a reaper. */
export const reaperOptions = defineOptions({
  ...databaseOptions,
  batchSize: {
    kind: 'integer',
    env: 'PERDURE_REAPER_BATCH_SIZE',
    flag: 'batch-size',
    default: 500,
    min: 1,
    max: 10_000,
    unit: 'runs',
    description: 'Most runs that one sweep changes',
  },
  maxSleepMs: {
    kind: 'duration',
    env: 'PERDURE_REAPER_MAX_SLEEP',
    flag: 'max-sleep',
    default: 2_000,
    min: 50,
    max: 60_000,
    description: 'Longest time between two sweeps when nothing falls due and no wake-up comes',
  },
  reclaimBackoffMs: {
    kind: 'duration',
    env: 'PERDURE_RECLAIM_BACKOFF',
    flag: 'reclaim-backoff',
    default: 1_000,
    min: 0,
    max: 3_600_000,
    description: 'Delay of a run after its second lost lease in a row; doubles with each further one',
  },
  maxReclaimBackoffMs: {
    kind: 'duration',
    env: 'PERDURE_MAX_RECLAIM_BACKOFF',
    flag: 'max-reclaim-backoff',
    default: 60_000,
    min: 0,
    max: 86_400_000,
    description: 'Longest delay of a run after a lost lease',
  },
  serverGraceMs: {
    kind: 'duration',
    env: 'PERDURE_SERVER_GRACE',
    flag: 'server-grace',
    default: 5_000,
    min: 0,
    max: 600_000,
    description:
      'How long a server must have been up before expired leases are reclaimed, so that workers can renew first',
  },
  minWorkerSilenceMs: {
    kind: 'duration',
    env: 'PERDURE_MIN_WORKER_SILENCE',
    flag: 'min-worker-silence',
    default: 15_000,
    min: 0,
    max: 3_600_000,
    description: 'A worker becomes OFFLINE after a silence of its lease duration, but at least of this length',
  },
  ...logOptions,
});

/** The configuration of a reaper; see docs/configuration.md for units, defaults and ranges. */
export type ReaperConfig = ConfigOf<typeof reaperOptions>;

/** Relations between the options; for `loadConfig`. */
export function reaperRelations(config: Readonly<Record<string, unknown>>): string[] {
  return (config.maxReclaimBackoffMs as number) < (config.reclaimBackoffMs as number)
    ? ['--max-reclaim-backoff must be at least --reclaim-backoff.']
    : [];
}
