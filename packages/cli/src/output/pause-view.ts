/** Pauses for people. */
import type { RunPause, WorkflowRun } from '@perdure/proto';
import pc from 'picocolors';
import { failureText } from './failures.js';
import { safe } from './text.js';
import { timeText } from './time.js';

/** `2026-11-25 14:20:15 by alice: deploy`. */
export function pauseText(pause: Pick<RunPause, 'pausedAt' | 'pausedBy' | 'reason'>): string {
  const by = pause.pausedBy === '' ? '' : ` by ${safe(pause.pausedBy)}`;
  return `${timeText(pause.pausedAt)}${by}${pause.reason === '' ? '' : `: ${safe(pause.reason)}`}`;
}

/** Who has paused a run, when and why; and why its worker could not continue it. */
export function pauseFields({ pause }: WorkflowRun, fullStack: boolean): [string, string | undefined][] {
  if (pause === undefined) return [];
  return [
    [pause.failure === undefined ? 'paused' : 'held', pauseText(pause)],
    ['held because', failureText(pause.failure, fullStack)],
  ];
}

/** One line per pause, for histories. */
export function pauseLine(pause: RunPause): string {
  const { failure, resumedAt, resumedBy } = pause;
  const why = failure === undefined ? '' : `, because its worker could not continue it: ${safe(failure.message)}`;
  const until =
    resumedAt === undefined
      ? ''
      : `; resumed ${timeText(resumedAt)}${resumedBy === '' ? '' : ` by ${safe(resumedBy)}`}`;
  return pc.dim(`${failure === undefined ? 'Paused' : 'Held'} ${pauseText(pause)}${why}${until}.`);
}
