/** Reapers and diagnoses as protobuf messages. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { DiagnoseResponseSchema, ReaperInfoSchema } from '@perdure/proto';
import type { Diagnosis, Reaper } from '@perdure/store';
import { dispatchPauseMessage, runPauseMessage } from './pauses.js';
import { durationOf, timestampOf } from './time.js';

export function reaperMessage(reaper: Reaper): MessageInitShape<typeof ReaperInfoSchema> {
  return {
    reaperId: reaper.reaperId,
    identity: reaper.identity,
    startedAt: timestampOf(reaper.startedAt),
    lastSeenAt: timestampOf(reaper.lastSeenAt),
  };
}

export function diagnosisMessage(diagnosis: Diagnosis): MessageInitShape<typeof DiagnoseResponseSchema> {
  return {
    overdueSleepers: BigInt(diagnosis.overdueSleepers),
    longestOverdue: durationOf(diagnosis.longestOverdueMs),
    expiredLeases: BigInt(diagnosis.expiredLeases),
    longestExpired: durationOf(diagnosis.longestExpiredMs),
    runsLosingLeases: BigInt(diagnosis.runsLosingLeases),
    mostLostLeases: diagnosis.mostLostLeases,
    withoutWorker: diagnosis.withoutWorker.map(({ taskQueue, workflowType, runs, oldestAgeMs, workersOnline }) => ({
      taskQueue,
      workflowType,
      runs: BigInt(runs),
      oldestAge: durationOf(oldestAgeMs),
      workersOnline,
    })),
    failed: diagnosis.failed.map(({ workflowType, runs, newestRunId, newestAt }) => ({
      workflowType,
      runs: BigInt(runs),
      newestRunId,
      newestAt: timestampOf(newestAt),
    })),
    paused: diagnosis.paused.map(({ workflowType, held, runs, newestRunId, newest }) => ({
      workflowType,
      held,
      runs: BigInt(runs),
      newestRunId,
      newest: runPauseMessage(newest),
    })),
    pauses: diagnosis.pauses.map(dispatchPauseMessage),
  };
}
