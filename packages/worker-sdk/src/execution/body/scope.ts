import { AsyncLocalStorage } from 'node:async_hooks';
import type { StepContext } from '../../context.js';

/** Where in a workflow the present code runs. */
export interface Scope {
  /** Set inside the body of a step. */
  readonly step?: StepContext;
  /** Set inside `ctx.uncancellable`. */
  readonly uncancellable?: boolean;
  /** Set around a compensation. */
  readonly isCompensation?: boolean;
  /** The innermost saga. */
  readonly saga?: RunningSaga;
}

export interface RunningSaga {
  /** @returns to be called when what begins has ended @throws {Error} when the saga has failed */
  begins(name: string): () => void;
}

const storage = new AsyncLocalStorage<Scope>();

export const currentScope = (): Scope => storage.getStore() ?? {};

export const runInScope = <T>(scope: Scope, work: () => T): T => storage.run(scope, work);

/** @throws {Error} outside of a step's body */
export function currentStep(what: string): StepContext {
  const { step } = currentScope();
  if (step === undefined) {
    throw new Error(`${what} belongs to a step: use it inside the function given to ctx.step.`);
  }
  return step;
}
