import type { RunInfo, StepContext } from '../../context.js';
import type { BodyCall } from './body-call.js';
import type { Stub, StubBody, StubScope } from './stub.js';

interface Entry {
  readonly step: string;
  readonly scope: StubScope;
  readonly body: StubBody;
  readonly calls: BodyCall[];
}

interface Step {
  readonly name: string;
  readonly run: RunInfo;
  readonly body: (step: StepContext) => unknown;
  readonly isAtMostOnce: boolean;
}

/** Executes the bodies of all steps, real ones or stubs, and remembers each execution. */
export class Bodies {
  readonly calls: BodyCall[] = [];
  #stubs: Entry[] = [];
  readonly #underWay = new Set<BodyCall>();
  readonly #onEnd: (() => void)[] = [];

  stub(step: string, body: StubBody, scope: StubScope): Stub {
    const entry: Entry = { step, scope, body, calls: [] };
    this.#stubs.push(entry);
    const stubs = () => this.#stubs;
    const set = (left: Entry[]) => {
      this.#stubs = left;
    };
    return {
      calls: entry.calls,
      get effects() {
        return new Set(entry.calls.map(({ idempotencyKey }) => idempotencyKey)).size;
      },
      restore() {
        set(stubs().filter((other) => other !== entry));
      },
    };
  }

  /** Executions under way now. */
  get underWay(): readonly BodyCall[] {
    return [...this.#underWay];
  }

  /** Runs that have one. */
  get runningRuns(): number {
    return new Set(this.underWay.map(({ runId }) => runId)).size;
  }

  /** Called after an execution has ended. */
  onEnd(f: () => void): void {
    this.#onEnd.push(f);
  }

  execute({ name, run, body, isAtMostOnce }: Step, step: StepContext): unknown {
    const stub = this.#stubOf(name, run);
    const call: { -readonly [K in keyof BodyCall]: BodyCall[K] } = {
      step: name,
      stepId: step.stepId,
      namespace: run.namespace,
      workflowType: run.workflowType,
      workflowId: run.workflowId,
      runId: run.runId,
      idempotencyKey: step.idempotencyKey,
      attemptNumber: step.attemptNumber,
      isStubbed: stub !== undefined,
      isAtMostOnce,
      outcome: { kind: 'running' },
    };
    this.calls.push(call);
    this.#underWay.add(call);
    stub?.calls.push(call);
    const ended = (outcome: BodyCall['outcome']) => {
      call.outcome = outcome;
      this.#underWay.delete(call);
      for (const f of this.#onEnd) f();
    };
    const returned = <T>(value: T) => {
      ended({ kind: 'returned', value });
      return value;
    };
    const threw = (error: unknown) => {
      ended({ kind: 'threw', error });
      throw error;
    };
    try {
      const original = async () => body(step);
      const value = stub === undefined ? body(step) : stub.body(step, { run, original });
      // A body that is not async stays so: it is recorded differently.
      return isThenable(value) ? Promise.resolve(value).then(returned, threw) : returned(value);
    } catch (error) {
      return threw(error);
    }
  }

  #stubOf(name: string, run: RunInfo): Entry | undefined {
    let best: Entry | undefined;
    let bestRank = -1;
    for (const entry of this.#stubs) {
      if (entry.step !== name) continue;
      const rank = rankOf(entry.scope, run);
      if (rank < bestRank || rank < 0) continue;
      best = entry;
      bestRank = rank;
    }
    return best;
  }
}

/** @returns how precisely the scope names the run; −1: it does not */
function rankOf({ workflow, run: wanted }: StubScope, run: RunInfo): number {
  const type = typeof workflow === 'string' ? workflow : workflow?.name;
  if (type !== undefined && type !== run.workflowType) return -1;
  if (wanted !== undefined) {
    const isRun = 'runId' in wanted ? wanted.runId === run.runId : wanted.workflowId === run.workflowId;
    if (!isRun) return -1;
  }
  return (type === undefined ? 0 : 1) + (wanted === undefined ? 0 : 2);
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}
