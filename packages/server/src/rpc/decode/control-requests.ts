/** Requests of people who act on runs. */
import type { EndStepRequest, ForkRunRequest } from '@perdure/proto';
import type { EndStep, ForkRun, RunAction, RunRef } from '@perdure/store';
import type { Checker } from './checker.js';
import { decodeFailure } from './failure.js';
import { decodeRunRef } from './workflow-requests.js';

interface ActionFields {
  readonly namespace: string;
  readonly runId: string;
  readonly workflowId: string;
  readonly reason: string;
  readonly actor: string;
  readonly requestId: string;
}

export interface ActOnRun {
  readonly ref: RunRef;
  readonly action: Omit<RunAction, 'namespace' | 'runId'>;
}

/** Who does it, and why. */
export function decodeRunAction(check: Checker, request: ActionFields): ActOnRun {
  return {
    ref: decodeRunRef(check, request),
    action: {
      actor: check.optionalId('actor', request.actor),
      reason: check.text('reason', request.reason),
      requestId: check.optionalId('request_id', request.requestId) || null,
    },
  };
}

export function decodeEndStep(check: Checker, request: EndStepRequest): ActOnRun & Pick<EndStep, 'stepId' | 'outcome'> {
  return {
    ...decodeRunAction(check, request),
    stepId: check.id('step_id', request.stepId),
    outcome: outcomeOf(check, request.outcome),
  };
}

export function decodeForkRun(
  check: Checker,
  request: ForkRunRequest,
): ActOnRun & Pick<ForkRun, 'stepId' | 'workflowId' | 'input'> {
  const { input } = request;
  return {
    ...decodeRunAction(check, request),
    stepId: check.id('step_id', request.stepId),
    workflowId: check.optionalId('new_workflow_id', request.newWorkflowId) || null,
    input: input === undefined ? null : { value: check.payload('input.value', input.value) },
  };
}

function outcomeOf(check: Checker, outcome: EndStepRequest['outcome']): EndStep['outcome'] {
  switch (outcome.case) {
    case 'completed':
      return { kind: 'COMPLETED', output: check.payload('completed.output', outcome.value.output) };
    case 'failed':
      return { kind: 'FAILED', failure: decodeFailure(check, 'failed', outcome.value) };
    case 'skipped':
      if (!outcome.value) check.violate('skipped', 'must be true; leave it out to complete or to fail the step.');
      return { kind: 'SKIPPED' };
    case undefined:
      check.violate('outcome', 'must be given: one of completed, failed, skipped.');
      return { kind: 'SKIPPED' };
  }
}
