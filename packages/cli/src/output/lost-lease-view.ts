import { dateOf, type LostLease } from '@perdure/proto';
import { safe } from './text.js';
import { timeText } from './time.js';

/** `lease 4: web-3:4711, build b7 (01a2…), last sign of life …, reclaimed …, in step 'parse'`. */
export function lostLeaseText(lease: LostLease): string {
  const { leaseToken, workerId, workerIdentity, build, openSteps, lastSeenAt, lostAt, counted } = lease;
  const name =
    workerIdentity === ''
      ? workerId
      : `${safe(workerIdentity)}${build === '' ? '' : `, build ${safe(build)}`} (${workerId})`;
  return [
    `lease ${leaseToken}: ${name}`,
    `last sign of life ${timeText(lastSeenAt)}`,
    `reclaimed ${timeText(lostAt)}`,
    openSteps.length === 0 ? 'no step had begun' : `in ${openSteps.map((step) => `'${safe(step)}'`).join(', ')}`,
    ...(counted ? [] : ['not counted']),
  ].join('; ');
}

export function lostLeaseJson({ lastSeenAt, lostAt, ...lease }: LostLease): unknown {
  const { leaseToken, workerId, workerIdentity, build, openSteps, counted } = lease;
  return {
    leaseToken,
    workerId,
    workerIdentity,
    build,
    lastSeenAt: dateOf(lastSeenAt)?.toISOString() ?? null,
    lostAt: dateOf(lostAt)?.toISOString() ?? null,
    openSteps,
    counted,
  };
}
