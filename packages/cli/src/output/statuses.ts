import { BulkStatus, Compensation, RunStatus, type StepAttempt, StepKind, StepStatus } from '@perdure/proto';
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
  COMPENSATING: pc.yellow,
  PARTIAL: pc.red,
  ABORTED: pc.red,
};

export const bulkStatusText = (status: BulkStatus): string => coloured(BulkStatus[status]);

export const runStatusText = (status: RunStatus): string => coloured(RunStatus[status]);

/** Undefined: the run has none. */
export const compensationText = (compensation: Compensation): string | undefined =>
  compensation === Compensation.UNSPECIFIED ? undefined : coloured(Compensation[compensation]);

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

/** States of compensations to filter by. */
export const OFFERED_COMPENSATIONS: readonly Compensation[] = [
  Compensation.COMPENSATING,
  Compensation.COMPLETE,
  Compensation.PARTIAL,
];
