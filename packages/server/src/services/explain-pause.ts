import { WaitReason } from '@perdure/proto';
import type { DispatchPause, Run, RunFacts } from '@perdure/store';
import { ago, errorLine, oneLine, span } from '../rpc/phrases.js';

/** Why a run is not moving, for programs and for people. */
export interface Explanation {
  readonly reason: WaitReason;
  readonly text: string;
}

/** A paused run that no worker holds. */
export function explainPaused({ runId, pause }: Run, { now }: RunFacts): Explanation {
  if (pause === null) return { reason: WaitReason.PAUSED, text: 'It is paused.' };
  const { failure } = pause;
  if (failure === null) {
    return {
      reason: WaitReason.PAUSED,
      text: `It was paused ${ago(now, pause.pausedAt)}${who(pause)}. What comes for it is kept; it continues when it is resumed.`,
    };
  }
  const by = pause.pausedBy === '' ? '' : ` It was paused before${who(pause)}.`;
  return {
    reason: WaitReason.HELD,
    text:
      `It has been held for ${span(now.getTime() - pause.pausedAt.getTime())}, because its worker could not continue it: ${errorLine(failure)}.${by} ` +
      `Nothing of it is lost. Roll the code back, or deploy code that fits it, then resume it: perdure run resume ${runId}`,
  };
}

/** Of a run that is paused and that its worker has not given back yet. */
export function pausingText({ pause }: Run, { now }: RunFacts): string {
  if (pause === null) return '';
  return ` It was paused ${ago(now, pause.pausedAt)}${who(pause)}: no further step begins, and the worker gives it back when what is under way has ended.`;
}

/** The run may be claimed, but its queue or its type is paused. */
export function explainDispatchPause(pause: DispatchPause, { now }: RunFacts, more: string): Explanation {
  const isQueue = pause.kind === 'TASK_QUEUE';
  const what = isQueue ? `task queue '${pause.name}'` : `workflow type '${pause.name}'`;
  const resume = isQueue ? `perdure queue resume '${pause.name}'` : `perdure workflow resume '${pause.name}'`;
  return {
    reason: isQueue ? WaitReason.TASK_QUEUE_PAUSED : WaitReason.WORKFLOW_TYPE_PAUSED,
    text: `Its ${what} was paused ${ago(now, pause.pausedAt)}${who(pause)}; it waits until that is resumed: ${resume}.${more}`,
  };
}

/** ` by alice ('deploy')`. */
function who({ pausedBy, reason }: { readonly pausedBy: string; readonly reason: string }): string {
  const by = pausedBy === '' ? '' : ` by ${oneLine(pausedBy)}`;
  return reason === '' ? by : `${by} ('${oneLine(reason)}')`;
}
