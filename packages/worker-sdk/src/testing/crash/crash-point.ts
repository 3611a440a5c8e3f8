import type { WorkerWrite } from '../connection/dropping.js';

/** Where a worker is dropped. */
export interface CrashPoint {
  readonly side: 'before' | 'after';
  /** Names the write among those of one execution. */
  readonly write: string;
}

/** For reports: `after CompleteStep of 'charge'`. */
export const nameOfPoint = ({ side, write }: CrashPoint): string => `${side} ${write}`;

/** The run of a write, as a report names it. */
export interface NamedRun {
  readonly workflowType: string;
  readonly workflowId: string;
}

/** Gives each write of an execution a name that other executions of the same workflow give it as well. */
export class WriteNames {
  readonly #rootId: string;
  readonly #uses = new Map<string, number>();

  /** @param rootId workflow id of the run under test; its writes are named without it */
  constructor(rootId: string) {
    this.#rootId = rootId;
  }

  next(write: WorkerWrite, run: NamedRun | undefined): string {
    const steps = stepsOf(write.request);
    const what = steps.length === 0 ? '' : ` of ${steps.map((step) => `'${step}'`).join(', ')}`;
    const where = run === undefined || run.workflowId === this.#rootId ? '' : ` in ${this.#shortened(run.workflowId)}`;
    const name = `${write.method[0]?.toUpperCase()}${write.method.slice(1)}${what}${where}`;
    const use = (this.#uses.get(name) ?? 0) + 1;
    this.#uses.set(name, use);
    return use === 1 ? name : `${name} (no. ${use})`;
  }

  #shortened(workflowId: string): string {
    return workflowId.startsWith(`${this.#rootId}/`) ? workflowId.slice(this.#rootId.length + 1) : workflowId;
  }
}

/** Most steps that a name lists. */
const MAX_NAMED = 3;

function stepsOf(request: object): string[] {
  const { stepId, children } = request as { stepId?: string; children?: readonly { readonly stepId?: string }[] };
  if (stepId !== undefined && stepId !== '') return [stepId];
  const all = (children ?? []).flatMap((child) => (child.stepId === undefined ? [] : [child.stepId]));
  return all.length <= MAX_NAMED ? all : [...all.slice(0, MAX_NAMED), '…'];
}
