const MAX_STEPS = 16;

interface LastStepsOfType {
  readonly stepIds: Set<string>;
  /** The code reads its clock after its last result. */
  readsClock: boolean;
}

/**
 * Foretells for a worker after which step the code of a workflow returns, from where it has returned before. A wrong guess costs nothing
 * but the saved commit: see {@link Unrecorded}.
 */
export class LastSteps {
  readonly #types = new Map<string, LastStepsOfType>();

  isLast(workflowType: string, stepId: string): boolean {
    const known = this.#types.get(workflowType);
    return known !== undefined && !known.readsClock && known.stepIds.has(stepId);
  }

  /** The code has returned after this step. */
  returned(workflowType: string, stepId: string): void {
    const { stepIds } = this.#of(workflowType);
    if (stepIds.has(stepId)) return;
    if (stepIds.size >= MAX_STEPS) stepIds.clear();
    stepIds.add(stepId);
  }

  /** The code has not returned after this step. */
  continued(workflowType: string, stepId: string): void {
    this.#types.get(workflowType)?.stepIds.delete(stepId);
  }

  /** The code reads its clock after its last step, so it must know when that was recorded. */
  readsClock(workflowType: string): void {
    this.#of(workflowType).readsClock = true;
  }

  #of(workflowType: string): LastStepsOfType {
    let known = this.#types.get(workflowType);
    if (known === undefined) {
      known = { stepIds: new Set(), readsClock: false };
      this.#types.set(workflowType, known);
    }
    return known;
  }
}
