/** Requests about child runs, as commands. */
import type { StartChildrenRequest, StartChildrenRequest_Child } from '@perdure/proto';
import { type LeaseRef, PARENT_CLOSES, type StartChild, startIdentity } from '@perdure/store';
import { parentCloses, reusePolicies } from '../enums.js';
import type { Checker } from './checker.js';
import { decodeLease, MAX_INT32 } from './worker-requests.js';
import { DEFAULT_MAX_LOST_LEASES, MAX_LOST_LEASES, MAX_STARTS } from './workflow-requests.js';

const CHILD_POLICIES = reusePolicies.map((policy) => (policy === 'TERMINATE_EXISTING' ? undefined : policy));

export function decodeStartChildren(check: Checker, request: StartChildrenRequest): StartChild[] {
  const lease = decodeLease(check, request);
  check.count('children', request.children.length, 1, MAX_STARTS);
  return request.children
    .slice(0, MAX_STARTS)
    .map((child, index) => decodeChild(check, lease, child, `children[${index}].`));
}

function decodeChild(check: Checker, lease: LeaseRef, child: StartChildrenRequest_Child, path: string): StartChild {
  return {
    ...lease,
    stepId: check.id(`${path}step_id`, child.stepId),
    seq: check.integer(`${path}seq`, child.seq, 1, MAX_INT32),
    attemptNumber: check.integer(`${path}attempt_number`, child.attemptNumber, 1, MAX_INT32),
    eventSeq: check.integer(`${path}event_seq`, child.eventSeq, 1, MAX_INT32),
    uncancellable: child.uncancellable,
    childRunId:
      child.childRunId === ''
        ? startIdentity(lease.namespace, '').runId
        : check.uuid(`${path}child_run_id`, child.childRunId),
    workflowId: check.optionalId(`${path}workflow_id`, child.workflowId) || null,
    workflowType: check.id(`${path}workflow_type`, child.workflowType),
    taskQueue: check.optionalId(`${path}task_queue`, child.taskQueue) || null,
    input: check.payload(`${path}input`, child.input),
    priority: child.priority === undefined ? null : check.integer(`${path}priority`, child.priority, -100, 100),
    build: child.build === undefined ? null : check.optionalId(`${path}build`, child.build),
    reusePolicy: check.enumValue(`${path}reuse_policy`, child.reusePolicy, CHILD_POLICIES, 'ALLOW'),
    parentClose: check.enumValue(`${path}parent_close`, child.parentClose, parentCloses, PARENT_CLOSES[0]),
    startDelayMs: check.duration(`${path}start_delay`, child.startDelay, 0),
    runTimeoutMs: check.duration(`${path}run_timeout`, child.runTimeout, 0),
    executionTimeoutMs: check.duration(`${path}execution_timeout`, child.executionTimeout, 0),
    startTimeoutMs: check.duration(`${path}start_timeout`, child.startTimeout, 0),
    chainTimeoutMs: check.duration(`${path}chain_timeout`, child.chainTimeout, 0),
    maxLostLeases:
      child.maxLostLeases === 0
        ? DEFAULT_MAX_LOST_LEASES
        : check.integer(`${path}max_lost_leases`, child.maxLostLeases, 1, MAX_LOST_LEASES),
  };
}
