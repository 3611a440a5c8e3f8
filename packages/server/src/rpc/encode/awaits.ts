import type { EventWait, StepAttempt } from '@perdure/store';

/** What a step waits for, for people: a name, a name with its key, an id; empty when it waits for nothing from outside. */
export function awaitsText({ kind, awaits }: Pick<StepAttempt, 'kind' | 'awaits'>): string {
  if (awaits === null || kind !== 'EVENT') return awaits ?? '';
  const { name, key } = JSON.parse(awaits) as EventWait;
  return key === undefined ? name : `${name} (key '${key}')`;
}
