import { AssertionError } from 'node:assert';
import { type Difference, lineOfDifference } from './differences.js';

/** What a crash test has tried. */
export interface CrashReport {
  /** Crash points at which a worker was dropped. */
  readonly points: number;
  /** Their names, in the order of the writes without a crash; for example `after CompleteStep of 'charge'`. */
  readonly names: readonly string[];
  /**
   * Crash points that did not come in their turn, because the execution made other writes than the one without a crash; code that runs
   * several things at the same time does that.
   */
  readonly notReached: readonly string[];
  /** Bodies that were executed more often than without a crash: each of them had its worker dropped before its result was recorded. */
  readonly repeatedBodies: number;
}

/** A crash point at which something else came out. */
export interface CrashFailure {
  readonly point: string;
  readonly differences: readonly Difference[];
}

/** Most failures, and differences of each, that are written out. */
const MAX_SHOWN = 10;

/** @throws {AssertionError} when there is a failure */
export function throwFailures(workflow: string, failures: readonly CrashFailure[], points: number): void {
  if (failures.length === 0) return;
  const texts = failures.slice(0, MAX_SHOWN).map(({ point, differences }) => {
    const lines = differences.slice(0, MAX_SHOWN).map((one) => `    ${lineOfDifference(one)}`);
    return [`  ${point}:`, ...lines, ...more(differences.length, '    ')].join('\n');
  });
  throw new AssertionError({
    message:
      `Workflow '${workflow}' comes to something else when its worker crashes, at ${failures.length} of ${points} crash points:\n\n` +
      `${[...texts, ...more(failures.length, '  ')].join('\n')}\n`,
    operator: 'crashEverywhere',
  });
}

const more = (count: number, indent: string) => (count > MAX_SHOWN ? [`${indent}… and ${count - MAX_SHOWN} more`] : []);
