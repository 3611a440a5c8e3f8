import { type ActionOptions, type RestartOptions, type RunOf, restartRun, retryRun } from './act-on-run.js';
import { ClientPauses } from './client-pauses.js';
import { completeStep, failStep, skipStep } from './end-step.js';
import { RunHandle } from './run-handle.js';

/** What people do to runs and their steps. */
export abstract class ClientControl extends ClientPauses {
  /** Retries a run that has ended without a result; see {@link RunHandle.retry}. */
  async retry(run: RunOf, options: ActionOptions = {}): Promise<void> {
    await retryRun(this.context, run, options);
  }

  /** Starts another run like one that exists; see {@link RunHandle.restart}. */
  async restart<Output = unknown>(run: RunOf, options: RestartOptions = {}): Promise<RunHandle<Output>> {
    return new RunHandle<Output>(await restartRun(this.context, run, options), undefined, this.context);
  }

  /** Gives a step a result by hand; see {@link RunHandle.completeStep}. */
  async completeStep(run: RunOf, stepId: string, result?: unknown, options: ActionOptions = {}): Promise<void> {
    await completeStep(this.context, run, stepId, result, options);
  }

  /** Gives a step an error by hand; see {@link RunHandle.failStep}. */
  async failStep(run: RunOf, stepId: string, error: unknown, options: ActionOptions = {}): Promise<void> {
    await failStep(this.context, run, stepId, error, options);
  }

  /** Skips a step by hand; see {@link RunHandle.skipStep}. */
  async skipStep(run: RunOf, stepId: string, options: ActionOptions = {}): Promise<void> {
    await skipStep(this.context, run, stepId, options);
  }
}
