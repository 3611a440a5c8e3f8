import { AssertionError } from 'node:assert';
import { contextOf, type RunHandle } from '../../client/run-handle.js';
import { align } from './align.js';
import { type ExpectedStep, fits, lineOfPattern, lineOfStep, patternOf, type StepPattern } from './expected-step.js';
import { type HistoryStep, readHistory } from './history.js';

/** Assertions about the history of a run; they work with every test runner. */
export interface HistoryAssertions {
  /**
   * The run has these steps, in the order of its code, and no others.
   *
   * @throws {AssertionError} with both histories side by side
   */
  toMatch(steps: readonly ExpectedStep[]): Promise<void>;
  /** The run has these steps in this order; others may be between them. */
  toContain(steps: readonly ExpectedStep[]): Promise<void>;
}

/**
 * Assertions about the history of a run as it is now.
 *
 * @param handle made by any client
 * @example
 * await expectHistory(run).toMatch(['reserve', { step: 'charge', attempts: 2 }, { step: 'cool-off', kind: 'sleep' }, 'ship']);
 */
export function expectHistory(handle: RunHandle<unknown>): HistoryAssertions {
  const compare = async (expected: readonly ExpectedStep[], mayHaveOthers: boolean) => {
    if (!Array.isArray(expected)) throw new TypeError('The expected steps must be an array.');
    const patterns = expected.map(patternOf);
    const steps = await readHistory(contextOf(handle), handle.runId);
    check(handle.runId, steps, patterns, mayHaveOthers);
  };
  return {
    toMatch: (steps) => compare(steps, false),
    toContain: (steps) => compare(steps, true),
  };
}

function check(
  runId: string,
  steps: readonly HistoryStep[],
  patterns: readonly StepPattern[],
  mayHaveOthers: boolean,
): void {
  const lines = align(steps, patterns, fits);
  const isWrong = lines.some(({ kind }) => kind === 'missing' || (kind === 'extra' && !mayHaveOthers));
  if (!isWrong) return;
  const spoken = new Set(patterns.flatMap((pattern) => Object.keys(pattern) as (keyof StepPattern)[]));
  const text = lines.map((one) => {
    if (one.kind === 'missing') return `- ${lineOfPattern(one.expected)}`;
    return `${one.kind === 'same' || mayHaveOthers ? ' ' : '+'} ${lineOfStep(one.actual, spoken)}`;
  });
  throw new AssertionError({
    message: `The history of run ${runId} is not as expected (- expected, + found):\n\n${text.map((one) => `  ${one}`).join('\n')}\n`,
    actual: steps.map((step) => lineOfStep(step, spoken)),
    expected: patterns.map(lineOfPattern),
    operator: mayHaveOthers ? 'toContain' : 'toMatch',
  });
}
