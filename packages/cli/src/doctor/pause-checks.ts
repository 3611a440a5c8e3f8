import { type DiagnoseResponse_PausedRuns, DispatchKind } from '@perdure/proto';
import { failureChain } from '../output/failures.js';
import { pauseText } from '../output/pause-view.js';
import { count, safe } from '../output/text.js';
import type { Check, Findings } from './check.js';

/** Runs that are held. */
export function heldRuns({ diagnosis: { paused } }: Findings): Check {
  const groups = paused.filter(({ held }) => held);
  const runs = groups.reduce((sum, group) => sum + Number(group.runs), 0);
  const texts = groups.map(
    (group) =>
      `${group.runs} of '${safe(group.workflowType)}' (last: ${group.newestRunId}: ${failureChain(group.newest?.failure)})`,
  );
  return {
    id: 'held-runs',
    status: runs > 0 ? 'warn' : 'ok',
    text:
      runs > 0
        ? `${count(runs, 'run')} held, because their worker could not continue them: ${texts.join('; ')}. Roll the code back or fix it, then: perdure run resume --held.`
        : 'No run is held',
    facts: { runs, types: groups.map(pausedJson) },
  };
}

/** What somebody has paused: queues, types and runs. */
export function pauses({ diagnosis: { paused, pauses } }: Findings): Check {
  const groups = paused.filter(({ held }) => !held);
  const texts = [
    ...pauses.map(({ kind, name, ...pause }) => {
      const isQueue = kind === DispatchKind.TASK_QUEUE;
      return `${isQueue ? 'task queue' : 'workflow type'} '${safe(name)}' (${pauseText(pause)})`;
    }),
    ...groups.map((group) => {
      const last = group.newest === undefined ? '' : `: ${pauseText(group.newest)}`;
      return `${count(Number(group.runs), 'run')} of '${safe(group.workflowType)}' (last ${group.newestRunId}${last})`;
    }),
  ];
  return {
    id: 'pauses',
    status: texts.length > 0 ? 'warn' : 'ok',
    text: texts.length > 0 ? `Paused: ${texts.join('; ')}` : 'Nothing is paused',
    facts: {
      taskQueues: pauses.filter(({ kind }) => kind === DispatchKind.TASK_QUEUE).map(({ name }) => name),
      workflowTypes: pauses.filter(({ kind }) => kind === DispatchKind.WORKFLOW_TYPE).map(({ name }) => name),
      types: groups.map(pausedJson),
    },
  };
}

const pausedJson = ({ workflowType, runs, newestRunId }: DiagnoseResponse_PausedRuns) => ({
  workflowType,
  runs: Number(runs),
  newestRunId,
});
