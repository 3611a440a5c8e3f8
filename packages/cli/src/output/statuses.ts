import { RunStatus, type StepAttempt, StepKind, StepStatus } from '@perdure/proto';
import pc from 'picocolors';

const COLOURS: Readonly<Record<string, (text: string) => string>> = {
  COMPLETED: pc.green,
  FAILED: pc.red,
  TERMINATED: pc.red,
  CANCELLED: pc.yellow,
  RUNNING: pc.cyan,
  SLEEPING: pc.blue,
  PENDING: pc.magenta,
};

export const runStatusText = (status: RunStatus): string => coloured(RunStatus[status]);

/** A timer that has not fired sleeps; it does not run. */
export function stepStatusText({ kind, status }: StepAttempt): string {
  return coloured(kind === StepKind.SLEEP && status === StepStatus.RUNNING ? 'SLEEPING' : StepStatus[status]);
}

function coloured(status: string | undefined): string {
  const text = status ?? 'UNKNOWN';
  return (COLOURS[text] ?? ((plain: string) => plain))(text);
}

/** Statuses to filter by. Nothing reaches WAITING and PAUSED yet, so they are not offered. */
export const OFFERED_STATUSES: readonly RunStatus[] = [
  RunStatus.PENDING,
  RunStatus.RUNNING,
  RunStatus.SLEEPING,
  RunStatus.COMPLETED,
  RunStatus.FAILED,
  RunStatus.CANCELLED,
  RunStatus.TERMINATED,
];
