import type { EventWait, StepAttempt } from '@perdure/store';

type Awaiting = Pick<StepAttempt, 'kind' | 'awaits' | 'stepId'>;

/** What a step waits for: a name, a name with its key, an id; empty when it waits for nothing from outside. */
export function awaitsText({ kind, awaits }: Pick<Awaiting, 'kind' | 'awaits'>): string {
  if (awaits === null || kind !== 'EVENT') return awaits ?? '';
  const { name, key } = JSON.parse(awaits) as EventWait;
  return key === undefined ? name : `${name} (key '${key}')`;
}

/** The same in a sentence: `signal 'approved'`, `promise 'approval'`. */
export function awaitsPhrase(step: Awaiting): string {
  switch (step.kind) {
    case 'EVENT': {
      const { name, key } = JSON.parse(step.awaits ?? '{}') as EventWait;
      return key === undefined ? `event '${name}'` : `event '${name}' with key '${key}'`;
    }
    case 'PROMISE':
      return `promise '${step.stepId}'`;
    case 'CHILD':
      return `child run ${step.awaits} (step '${step.stepId}')`;
    default:
      return `${step.kind.toLowerCase()} '${step.awaits}'`;
  }
}
