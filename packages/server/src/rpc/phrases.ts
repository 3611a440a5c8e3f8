/** Phrases for sentences about runs. */
import type { Failure, StepAttempt, Worker } from '@perdure/store';

const MAX_MESSAGE_CHARS = 200;

/** The longest unit that fits: `3.2 s`, `5 min`, `2 d`. */
export function span(ms: number): string {
  const units: readonly [number, string][] = [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'min'],
    [1_000, 's'],
  ];
  for (const [size, unit] of units) if (ms >= size) return `${Math.round((ms / size) * 10) / 10} ${unit}`;
  return `${Math.max(0, Math.round(ms))} ms`;
}

/** `a`, `a and b`, `a, b and c`; the first ten when there are more. */
export function list(items: readonly string[]): string {
  const shown = items.length <= 10 ? items : [...items.slice(0, 10), `${items.length - 10} more`];
  return shown.length <= 1 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

/** A text on one line of bounded length. */
export function oneLine(text: string): string {
  const line = text.trim().replace(/\s*[\r\n]+\s*/g, ' ⏎ ');
  return line.length <= MAX_MESSAGE_CHARS ? line : `${line.slice(0, MAX_MESSAGE_CHARS)} …`;
}

/** `TypeError [E_BAD]: no good (caused by Error [ECONNREFUSED]: connect …)`. */
export function errorText(failure: Failure | null): string {
  if (failure === null) return 'an error that was not recorded';
  const own = errorLine(failure);
  return failure.cause === undefined ? own : `${own} (caused by ${errorLine(innermost(failure.cause))})`;
}

/** The error without its cause. */
export function errorLine({ type, code, message }: Failure): string {
  const name = code === undefined || code === '' ? type : `${type} [${code}]`;
  return message === '' ? name : `${name}: ${oneLine(message)}`;
}

const innermost = (failure: Failure): Failure => (failure.cause === undefined ? failure : innermost(failure.cause));

/** `attempt 2 of 3`; when attempts were lost with their worker, also the counted number. */
export function attemptText({ attemptNumber, countedAttempt, maxCountedAttempts }: StepAttempt): string {
  const limit = maxCountedAttempts > 0 ? ` of ${maxCountedAttempts}` : '';
  return attemptNumber === countedAttempt
    ? `attempt ${countedAttempt}${limit}`
    : `attempt ${attemptNumber}, counted as ${countedAttempt}${limit}`;
}

/** `Worker web-3:4711 (build b7)`. */
export function workerText(workerId: string | null, worker: Worker | null): string {
  if (worker === null || worker.identity === '') return `Worker ${workerId}`;
  return worker.build === '' ? `Worker ${worker.identity}` : `Worker ${worker.identity} (build ${worker.build})`;
}

export const ago = (now: Date, then: Date): string => `${span(now.getTime() - then.getTime())} ago`;
