import { randomBytes } from 'node:crypto';
import { AdminService } from '@perdure/proto';
import type { Workflow } from '../../workflow.js';
import { CrashExecution, type Executed } from './crash-execution.js';
import type { CrashHost } from './crash-host.js';
import { type CrashOptions, checkCrashOptions } from './crash-options.js';
import { type CrashPoint, nameOfPoint } from './crash-point.js';
import { type CrashFailure, type CrashReport, throwFailures } from './crash-report.js';
import { differences } from './differences.js';

/** After so many failures the others would say nothing new. */
const MAX_FAILURES = 20;

/** See `TestEnvironment.crashEverywhere`. */
export async function crashEverywhere(
  host: CrashHost,
  workflow: Workflow,
  input: unknown,
  options: CrashOptions<unknown>,
): Promise<CrashReport> {
  checkCrashOptions(options);
  const admin = host.connection.service(AdminService);
  const prefix = `crash-${randomBytes(4).toString('hex')}`;
  let executions = 0;
  const execute = async (point?: CrashPoint): Promise<Executed> => {
    const namespace = `${prefix}-${executions++}`;
    await admin.createNamespace({ name: namespace });
    const workflows = [workflow, ...(options.workflows ?? host.known()).filter(({ name }) => name !== workflow.name)];
    return new CrashExecution({ host, namespace, workflows, workflow, input, options, point }).execute();
  };
  const reference = await execute();
  checkEnded(workflow.name, reference);
  checkComparable(workflow.name, reference, await execute());

  const names: string[] = [];
  const notReached: string[] = [];
  const failures: CrashFailure[] = [];
  let repeatedBodies = 0;
  for (const write of reference.writes) {
    for (const side of ['before', 'after'] as const) {
      const name = nameOfPoint({ side, write });
      if (options.only?.(name) === false || failures.length >= MAX_FAILURES) continue;
      const { outcome, hasCrashed, bodies } = await execute({ side, write });
      if (!hasCrashed) {
        notReached.push(name);
        continue;
      }
      names.push(name);
      repeatedBodies += Math.max(0, bodies - reference.bodies);
      const found = differences(reference.outcome, outcome);
      if (found.length > 0) failures.push({ point: name, differences: found });
    }
  }
  throwFailures(workflow.name, failures, names.length);
  return { points: names.length, names, notReached, repeatedBodies };
}

/** @throws {Error} when an execution without a crash has not come to its end: those with one would not either */
function checkEnded(workflow: string, { failure }: Executed): void {
  if (failure === undefined) return;
  const message = failure instanceof Error ? failure.message : String(failure);
  throw new Error(`An execution of workflow '${workflow}' without a crash did not come to its end: ${message}`, {
    cause: failure,
  });
}

/** @throws {Error} when two executions without a crash differ: nothing could be said of those with one */
function checkComparable(workflow: string, one: Executed, other: Executed): void {
  const found = differences(one.outcome, other.outcome);
  const [first] = found;
  if (first === undefined) return;
  throw new Error(
    `Two executions of workflow '${workflow}' without a crash differ at ${found.map(({ path }) => path).join(', ')} ` +
      `(${String(first.expected)} and ${String(first.actual)}). Make them comparable with the option normalize, or with stubs.`,
  );
}
