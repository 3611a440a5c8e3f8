const MAX_DEPTH = 16;
const MAX_STEPS = 1_000;

/** Errors are made anew for each delivery, so one table serves all runs. */
const steps = new WeakMap<Error, string>();

/** Remembers which step an error came from, so that the next attempt of the run can execute that step again. */
export function blame(error: Error, stepId: string): Error {
  steps.set(error, stepId);
  return error;
}

/** The failed steps that an error came from, directly or as a cause. */
export function blamedSteps(error: unknown): string[] {
  const stepIds = new Set<string>();
  const visit = (candidate: unknown, depth: number) => {
    if (!(candidate instanceof Error) || depth > MAX_DEPTH) return;
    const stepId = steps.get(candidate);
    if (stepId !== undefined) stepIds.add(stepId);
    visit(candidate.cause, depth + 1);
    if (candidate instanceof AggregateError) for (const inner of candidate.errors) visit(inner, depth + 1);
  };
  visit(error, 0);
  return [...stepIds].slice(0, MAX_STEPS);
}
