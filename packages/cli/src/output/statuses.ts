import { RunStatus, type StepAttempt, StepKind, StepStatus } from '@perdure/proto';
import pc from 'picocolors';

const COLOURS: Readonly<Record<string, (text: string) => string>> = {
  COMPLETED: pc.green,
  FAILED: pc.red,
  TERMINATED: pc.red,
  CANCELLED: pc.yellow,
  RUNNING: pc.cyan,
  SLEEPING: pc.blue,
  WAITING: pc.blue,
  TIMED_OUT: pc.yellow,
  PENDING: pc.magenta,
  CONTINUED: pc.green,
  PAUSED: pc.yellow,
};

export const runStatusText = (status: RunStatus): string => coloured(RunStatus[status]);

/** A timer that has not fired sleeps, and a step whose end comes from outside waits; they do not run. */
export function stepStatusText({ kind, status, awaits }: StepAttempt): string {
  if (status !== StepStatus.RUNNING) return coloured(StepStatus[status]);
  return coloured(kind === StepKind.SLEEP ? 'SLEEPING' : awaits === '' ? 'RUNNING' : 'WAITING');
}

function coloured(status: string | undefined): string {
  const text = status ?? 'UNKNOWN';
  return (COLOURS[text] ?? ((plain: string) => plain))(text);
}

/** Statuses to filter by. */
export const OFFERED_STATUSES: readonly RunStatus[] = [
  RunStatus.PENDING,
  RunStatus.RUNNING,
  RunStatus.SLEEPING,
  RunStatus.WAITING,
  RunStatus.PAUSED,
  RunStatus.COMPLETED,
  RunStatus.FAILED,
  RunStatus.CANCELLED,
  RunStatus.TERMINATED,
  RunStatus.CONTINUED,
];
