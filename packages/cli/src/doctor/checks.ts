/** What `perdure doctor` checks; pure functions of what was read. */
import { dateOf, msOf } from '@perdure/proto';
import { count, safe } from '../output/text.js';
import { spanText, timeJson } from '../output/time.js';
import type { Check, Findings } from './check.js';
import { heldRuns, pauses } from './pause-checks.js';

export type { Check, CheckStatus, Findings } from './check.js';

/** Larger clock differences are reported, in ms. */
const MAX_CLOCK_OFFSET_MS = 5_000;

export function checksOf(findings: Findings): Check[] {
  return [
    server(findings),
    database(findings),
    durability(findings),
    clock(findings),
    reapers(findings),
    workers(findings),
    overdueSleepers(findings),
    expiredLeases(findings),
    lostLeases(findings),
    queuesWithoutWorkers(findings),
    typesWithoutWorkers(findings),
    failedRuns(findings),
    heldRuns(findings),
    pauses(findings),
  ];
}

/**
 * When no server answers, or one without its database, nothing else can be checked.
 *
 * @param reason that the server gave; empty when none answered
 */
export function unavailable(address: string, reason: string, why: string): Check {
  const text = reason === '' ? `No server answers at ${address}` : `The server at ${address} is not ready`;
  return { id: 'server', status: 'fail', text: `${text}: ${safe(why)}`, facts: { address, reason } };
}

function server({ info, address }: Findings): Check {
  return {
    id: 'server',
    status: 'ok',
    text: `Perdure ${info.version} at ${address}; ${count(info.servers, 'server')} alive`,
    facts: {
      address,
      version: info.version,
      serversAlive: info.servers,
      waitingPolls: info.waitingPolls,
      listeningWorkers: info.listeningWorkers,
      awaitedRuns: info.awaitedRuns,
    },
  };
}

function database({ info }: Findings): Check {
  return {
    id: 'database',
    status: 'ok',
    text: `PostgreSQL ${info.databaseVersion}, schema version ${info.schemaVersion}`,
    facts: { version: info.databaseVersion, schemaVersion: info.schemaVersion },
  };
}

function durability({ info: { durable } }: Findings): Check {
  return {
    id: 'durability',
    ...(durable
      ? { status: 'ok', text: 'fsync and synchronous_commit are on' }
      : {
          status: 'fail',
          text: 'fsync or synchronous_commit is off: acknowledged writes may be lost in a crash. Turn both on.',
        }),
    facts: { durable },
  };
}

function clock({ info, localMs }: Findings): Check {
  const offsetMs = Math.round(localMs - (dateOf(info.now)?.getTime() ?? localMs));
  const far = Math.abs(offsetMs) > MAX_CLOCK_OFFSET_MS;
  return {
    id: 'clock',
    status: far ? 'warn' : 'ok',
    text: far
      ? `This machine's clock is ${spanText(Math.abs(offsetMs))} ${offsetMs > 0 ? 'ahead of' : 'behind'} the database's, which decides all times in Perdure. Set this machine's clock.`
      : "This machine's clock agrees with the database's",
    facts: { offsetMs },
  };
}

function reapers({ info: { reapers: alive } }: Findings): Check {
  return {
    id: 'reapers',
    ...(alive.length > 0
      ? {
          status: 'ok',
          text: `${count(alive.length, 'reaper')} alive: ${safe(alive.map(({ identity }) => identity).join(', '))}`,
        }
      : {
          status: 'fail',
          text: 'No reaper is alive: sleepers are not woken and runs of dead workers are not reclaimed. Start one: perdure reaper.',
        }),
    facts: {
      alive: alive.length,
      reapers: alive.map(({ reaperId, identity, startedAt, lastSeenAt }) => ({
        reaperId,
        identity,
        startedAt: timeJson(startedAt),
        lastSeenAt: timeJson(lastSeenAt),
      })),
    },
  };
}

function workers({ workersOnline, namespace }: Findings): Check {
  return {
    id: 'workers',
    status: 'ok',
    text: `${count(workersOnline, 'worker')} online in namespace '${namespace}'`,
    facts: { online: workersOnline },
  };
}

function overdueSleepers({ diagnosis, info }: Findings): Check {
  const runs = Number(diagnosis.overdueSleepers);
  const longestMs = Math.round(msOf(diagnosis.longestOverdue) ?? 0);
  const why = info.reapers.length === 0 ? 'No reaper is alive to wake them.' : 'The reapers are behind; add one.';
  return {
    id: 'overdue-sleepers',
    status: runs > 0 ? 'fail' : 'ok',
    text:
      runs > 0
        ? `${count(runs, 'run')} should have woken already, by up to ${spanText(longestMs)}. ${why}`
        : 'No sleeper is overdue',
    facts: { runs, longestOverdueMs: longestMs },
  };
}

function expiredLeases({ diagnosis, info }: Findings): Check {
  const runs = Number(diagnosis.expiredLeases);
  const longestMs = Math.round(msOf(diagnosis.longestExpired) ?? 0);
  const why =
    info.reapers.length === 0
      ? 'No reaper is alive to reclaim them.'
      : 'The reapers reclaim them once a server has been up for the time of --server-grace.';
  return {
    id: 'expired-leases',
    status: runs === 0 ? 'ok' : info.reapers.length === 0 ? 'fail' : 'warn',
    text:
      runs > 0
        ? `${count(runs, 'run')} belong${runs === 1 ? 's' : ''} to workers that stopped renewing their lease, up to ${spanText(longestMs)} ago. ${why}`
        : 'No lease has expired',
    facts: { runs, longestExpiredMs: longestMs },
  };
}

function lostLeases({ diagnosis: { runsLosingLeases, mostLostLeases } }: Findings): Check {
  const runs = Number(runsLosingLeases);
  return {
    id: 'lost-leases',
    status: runs > 0 ? 'warn' : 'ok',
    text:
      runs > 0
        ? `${count(runs, 'open run')} lost ${runs === 1 ? 'its' : 'their'} worker${mostLostLeases > 1 ? `, up to ${mostLostLeases} times in a row` : ''}. Find out why the workers died: perdure worker list --all.`
        : 'No open run has lost its worker',
    facts: { runs, mostInARow: mostLostLeases },
  };
}

function queuesWithoutWorkers({ diagnosis }: Findings): Check {
  const queues = new Map<string, { runs: number; oldestAgeMs: number }>();
  for (const { taskQueue, runs, oldestAge, workersOnline } of diagnosis.withoutWorker) {
    if (workersOnline > 0) continue;
    const { runs: before, oldestAgeMs } = queues.get(taskQueue) ?? { runs: 0, oldestAgeMs: 0 };
    queues.set(taskQueue, {
      runs: before + Number(runs),
      oldestAgeMs: Math.max(oldestAgeMs, Math.round(msOf(oldestAge) ?? 0)),
    });
  }
  const list = [...queues].map(([taskQueue, facts]) => ({ taskQueue, ...facts }));
  const texts = list.map(
    ({ taskQueue, runs, oldestAgeMs }) =>
      `'${safe(taskQueue)}' has ${count(runs, 'claimable run')}, the oldest for ${spanText(oldestAgeMs)}`,
  );
  return {
    id: 'queues-without-workers',
    status: list.length > 0 ? 'fail' : 'ok',
    text:
      list.length > 0
        ? `No worker polls ${list.length === 1 ? 'this task queue' : 'these task queues'}: ${texts.join('; ')}. Start workers.`
        : 'Every task queue with claimable runs has a worker',
    facts: { taskQueues: list },
  };
}

function typesWithoutWorkers({ diagnosis }: Findings): Check {
  const list = diagnosis.withoutWorker
    .filter(({ workersOnline }) => workersOnline > 0)
    .map(({ taskQueue, workflowType, runs, oldestAge, workersOnline }) => ({
      taskQueue,
      workflowType,
      runs: Number(runs),
      oldestAgeMs: Math.round(msOf(oldestAge) ?? 0),
      workersOnline,
    }));
  const texts = list.map(
    ({ taskQueue, workflowType, runs }) =>
      `'${safe(workflowType)}' in task queue '${safe(taskQueue)}' (${count(runs, 'claimable run')})`,
  );
  return {
    id: 'types-without-workers',
    status: list.length > 0 ? 'fail' : 'ok',
    text:
      list.length > 0
        ? `No worker online has registered ${texts.join('; ')}. Register the workflow, or check the type's name.`
        : 'Every workflow type with claimable runs has a worker',
    facts: { types: list },
  };
}

function failedRuns({ diagnosis: { failed }, recentMs }: Findings): Check {
  const runs = failed.reduce((sum, group) => sum + Number(group.runs), 0);
  const texts = failed.map((group) => `${group.runs} of '${safe(group.workflowType)}' (last: ${group.newestRunId})`);
  return {
    id: 'failed-runs',
    status: runs > 0 ? 'warn' : 'ok',
    text:
      runs > 0
        ? `${count(runs, 'run')} FAILED in the last ${spanText(recentMs)}: ${texts.join('; ')}. For details: perdure run describe <run>.`
        : `No run FAILED in the last ${spanText(recentMs)}`,
    facts: {
      recentMs,
      runs,
      types: failed.map((group) => ({
        workflowType: group.workflowType,
        runs: Number(group.runs),
        newestRunId: group.newestRunId,
        newestAt: timeJson(group.newestAt),
      })),
    },
  };
}
