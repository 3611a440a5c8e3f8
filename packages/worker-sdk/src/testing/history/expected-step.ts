import { isDeepStrictEqual } from 'node:util';
import { refuseUnknownKeys } from '../../options.js';
import { shown } from '../../text.js';
import type { HistoryStep } from './history.js';

/** What a step of a history must be like; what is left out may be anything. */
export interface StepPattern {
  /** Its id: the name, or `name#n`; or what it must match. */
  readonly step: string | RegExp;
  readonly kind?: HistoryStep['kind'];
  readonly status?: HistoryStep['status'];
  readonly attempts?: number;
  /** Compared deeply. */
  readonly output?: unknown;
  /** Its message, or what the message must match. */
  readonly error?: string | RegExp;
}

/** A pattern, or the id of a step that must be completed. */
export type ExpectedStep = string | StepPattern;

const KNOWN: readonly (keyof StepPattern)[] = ['step', 'kind', 'status', 'attempts', 'output', 'error'];

/** @throws {TypeError} naming what is wrong */
export function patternOf(expected: ExpectedStep): StepPattern {
  if (typeof expected === 'string') return { step: expected, status: 'completed' };
  if (typeof expected !== 'object' || expected === null) {
    throw new TypeError(
      `An expected step must be the id of a step or an object with a 'step'; got ${shown(expected)}.`,
    );
  }
  refuseUnknownKeys('An expected step', expected, KNOWN);
  if (typeof expected.step !== 'string' && !(expected.step instanceof RegExp)) {
    throw new TypeError(`An expected step needs a 'step', a string or a RegExp; got ${shown(expected.step)}.`);
  }
  return expected;
}

export function fits(step: HistoryStep, pattern: StepPattern): boolean {
  return (
    fitsText(step.step, pattern.step) &&
    (pattern.kind === undefined || pattern.kind === step.kind) &&
    (pattern.status === undefined || pattern.status === step.status) &&
    (pattern.attempts === undefined || pattern.attempts === step.attempts) &&
    (!Object.hasOwn(pattern, 'output') || isDeepStrictEqual(step.output, pattern.output)) &&
    (pattern.error === undefined || (step.error !== undefined && fitsText(step.error.message, pattern.error)))
  );
}

const fitsText = (text: string, wanted: string | RegExp) =>
  typeof wanted === 'string' ? text === wanted : text.search(wanted) >= 0;

/** A step on one line, with those properties that a pattern speaks of. */
export function lineOfStep(step: HistoryStep, spoken: ReadonlySet<keyof StepPattern>): string {
  return line(step.step, {
    kind: spoken.has('kind') || step.kind !== 'step' ? step.kind : undefined,
    status: step.status,
    attempts: spoken.has('attempts') || step.attempts > 1 ? step.attempts : undefined,
    ...(spoken.has('output') ? { output: shown(step.output) } : {}),
    error: step.error === undefined ? undefined : shown(step.error.message),
  });
}

export function lineOfPattern({ step, ...pattern }: StepPattern): string {
  return line(String(step), {
    kind: pattern.kind,
    status: pattern.status,
    attempts: pattern.attempts,
    ...(Object.hasOwn(pattern, 'output') ? { output: shown(pattern.output) } : {}),
    error:
      pattern.error === undefined
        ? undefined
        : pattern.error instanceof RegExp
          ? String(pattern.error)
          : shown(pattern.error),
  });
}

interface Facts {
  readonly kind?: string | undefined;
  readonly status?: string | undefined;
  readonly attempts?: number | undefined;
  readonly output?: string;
  readonly error?: string | undefined;
}

function line(name: string, { kind, status, attempts, output, error }: Facts): string {
  const facts = [
    kind,
    status,
    attempts === undefined ? undefined : `${attempts} attempt${attempts === 1 ? '' : 's'}`,
    output === undefined ? undefined : `output ${output}`,
    error === undefined ? undefined : `error ${error}`,
  ].filter((fact) => fact !== undefined);
  return facts.length === 0 ? name : `${name.padEnd(24)} ${facts.join(', ')}`;
}
