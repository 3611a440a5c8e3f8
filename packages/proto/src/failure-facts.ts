/** What a failure means, whatever recorded it: one answer for SDK, command line and server. */
import { type Failure, FailureReason } from './gen/perdure/v1/types_pb.js';

/** What kinds of failures there are; a closed set. */
export const FAILURE_CATEGORIES = [
  /** The author's code threw it. */
  'application',
  /** A timeout of a step or a run has passed. */
  'timeout',
  /** It was cancelled. */
  'cancelled',
  /** It was terminated. */
  'terminated',
  /** The code requested something other than what is recorded. */
  'nondeterminism',
  /** A value is too large. */
  'payload',
  /** An input does not fit its schema, or an update was refused. */
  'input',
  /** Workers died or stalled. */
  'worker-lost',
  /** A limit that the author has set was reached. */
  'limit',
  /** A workflow id is taken. */
  'conflict',
] as const;
export type FailureCategory = (typeof FAILURE_CATEGORIES)[number];

/** Where a failure began. */
export interface FailureOriginFacts {
  readonly runId: string;
  /** Empty: not known. */
  readonly workflowType: string;
  /** Empty: the code itself, or the run as a whole. */
  readonly stepId: string;
  /** The counted attempt that failed, from 1; 0: not known. */
  readonly attempt: number;
  /** Most counted attempts; 0: no limit, or not known. */
  readonly maxAttempts: number;
}

/** What {@link failureFacts} answers. */
export interface FailureFacts {
  readonly category: FailureCategory;
  /** Whether a retry policy may execute again what failed. False for what ends a run whatever its policy says. */
  readonly retryable: boolean;
  /** Undefined: it is not about a run. */
  readonly origin: FailureOriginFacts | undefined;
  /** A sentence for a person: what to do, with the command. */
  readonly suggestedAction: string;
}

/**
 * @param here where the failure is recorded: its origin unless it says something else
 * @param runId the run that a person would act on; default: that of `here`, else of the origin
 */
export function failureFacts(failure: Failure, here?: FailureOriginFacts, runId = here?.runId): FailureFacts {
  const origin = originOf(failure, here);
  return {
    category: failureCategory(failure),
    retryable: !failure.nonRetryable && !ENDS.has(failure.reason),
    origin,
    suggestedAction: actionFor(failure, origin, runId ?? origin?.runId ?? '<run>'),
  };
}

const CATEGORIES: Readonly<Record<FailureReason, FailureCategory>> = {
  [FailureReason.UNSPECIFIED]: 'application',
  [FailureReason.APPLICATION]: 'application',
  [FailureReason.STEP_TIMEOUT]: 'timeout',
  [FailureReason.HEARTBEAT_TIMEOUT]: 'timeout',
  [FailureReason.START_TIMEOUT]: 'timeout',
  [FailureReason.EXECUTION_TIMEOUT]: 'timeout',
  [FailureReason.RUN_TIMEOUT]: 'timeout',
  [FailureReason.CHAIN_TIMEOUT]: 'timeout',
  [FailureReason.WORKER_LOST]: 'worker-lost',
  [FailureReason.TOO_MANY_LOST_LEASES]: 'worker-lost',
  [FailureReason.NON_DETERMINISM]: 'nondeterminism',
  [FailureReason.CANCELLED]: 'cancelled',
  [FailureReason.CHILD_CANCELLED]: 'cancelled',
  [FailureReason.TERMINATED]: 'terminated',
  [FailureReason.CHILD_TERMINATED]: 'terminated',
  [FailureReason.PAYLOAD_TOO_LARGE]: 'payload',
  [FailureReason.INVALID_INPUT]: 'input',
  [FailureReason.UPDATE_REFUSED]: 'input',
  [FailureReason.RETRY_BUDGET]: 'limit',
  [FailureReason.CHILD_NOT_STARTED]: 'conflict',
  // That of its cause.
  [FailureReason.CHILD_FAILED]: 'application',
};

/** Ends of runs, after which no policy is asked. */
const ENDS: ReadonlySet<FailureReason> = new Set([
  FailureReason.START_TIMEOUT,
  FailureReason.EXECUTION_TIMEOUT,
  FailureReason.RUN_TIMEOUT,
  FailureReason.CHAIN_TIMEOUT,
  FailureReason.TOO_MANY_LOST_LEASES,
  FailureReason.RETRY_BUDGET,
  FailureReason.NON_DETERMINISM,
  FailureReason.CANCELLED,
  FailureReason.TERMINATED,
]);

export function failureCategory({ reason, cause }: Failure): FailureCategory {
  if (reason === FailureReason.CHILD_FAILED && cause !== undefined) return failureCategory(cause);
  // A reason of a newer server.
  return CATEGORIES[reason] ?? 'application';
}

function originOf(failure: Failure, here: FailureOriginFacts | undefined): FailureOriginFacts | undefined {
  const { origin, child, cause } = failure;
  if (origin !== undefined) {
    const { runId, workflowType, stepId, attempt, maxAttempts } = origin;
    return { runId, workflowType, stepId, attempt, maxAttempts };
  }
  if (child === undefined || child.runId === '') return here;
  const { runId, workflowType } = child;
  const inChild = { runId, workflowType, stepId: cause?.stepId ?? '', attempt: 0, maxAttempts: 0 };
  return cause === undefined ? inChild : originOf(cause, inChild);
}

function actionFor(failure: Failure, origin: FailureOriginFacts | undefined, runId: string): string {
  const retry = `perdure run retry ${runId}`;
  const step = origin === undefined || origin.stepId === '' ? 'the step' : `step '${origin.stepId}'`;
  switch (failure.reason) {
    case FailureReason.STEP_TIMEOUT:
      return `See how long the attempts of ${step} took (perdure run history ${origin?.runId ?? runId}), make its body faster or raise its timeout, then: ${retry}`;
    case FailureReason.HEARTBEAT_TIMEOUT:
      return `Let the body of ${step} call heartbeat() more often, or raise its heartbeatTimeout, then: ${retry}`;
    case FailureReason.START_TIMEOUT:
      return `Start workers for its task queue (perdure worker list shows those online), then: ${retry}`;
    case FailureReason.EXECUTION_TIMEOUT:
    case FailureReason.RUN_TIMEOUT:
    case FailureReason.CHAIN_TIMEOUT:
      return `See what took so long (perdure run history ${origin?.runId ?? runId}), then give it the same time again: ${retry}`;
    case FailureReason.WORKER_LOST:
      return `Find out whether ${step} has taken effect before its worker was lost, give it its result (perdure step complete ${origin?.runId ?? runId} '${origin?.stepId ?? '<step>'}'), then: ${retry}`;
    case FailureReason.TOO_MANY_LOST_LEASES:
      return `Look at the logs of the workers that it has lost (perdure run describe ${origin?.runId ?? runId} names them), fix what ends them, then: ${retry}`;
    case FailureReason.NON_DETERMINISM:
      return `Let workers execute code that fits the history, then: ${retry}`;
    case FailureReason.CANCELLED:
    case FailureReason.TERMINATED:
      return `Nothing, when it was meant. To let it continue: ${retry}`;
    case FailureReason.PAYLOAD_TOO_LARGE:
      return `Store the value elsewhere and pass a reference, or raise --max-payload-bytes of the server, then: ${retry}`;
    case FailureReason.INVALID_INPUT:
      return 'Start it again with an input that fits its schema: perdure run start';
    case FailureReason.UPDATE_REFUSED:
      return 'Correct what was sent, and send it again: perdure run update';
    case FailureReason.RETRY_BUDGET:
      return `Find out why so many steps fail (perdure run history ${origin?.runId ?? runId}), or raise maxRetriesInAll, then: ${retry}`;
    case FailureReason.CHILD_FAILED:
    case FailureReason.CHILD_CANCELLED:
    case FailureReason.CHILD_TERMINATED:
      return `Look at the child (perdure run describe ${failure.child?.runId ?? '<run>'}), remove the cause, then start it again with: ${retry}`;
    case FailureReason.CHILD_NOT_STARTED:
      return `Give the child another workflowId, or let the run with its id end first, then: ${retry}`;
    default:
      return `Remove the cause or deploy fixed code, then continue where it failed: ${retry}`;
  }
}
