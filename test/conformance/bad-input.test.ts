import { create, type DescMethod, type DescService, toBinary } from '@bufbuild/protobuf';
import * as grpc from '@grpc/grpc-js';
import { AdminService, WorkerService, WorkflowService } from '@perdure/proto';
import { Connection, type RpcError } from '@perdure/worker-sdk';
import { v7 as uuid } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startPerdure, type TestPerdure } from '../support/perdure.js';
import { finalStep, refusal } from '../support/raw-worker.js';

const MAX_PAYLOAD = 2 * 1024 * 1024;
const tooBig = { data: new Uint8Array(MAX_PAYLOAD + 1), encoding: '' };
const runId = uuid();
const lease = { runId, leaseToken: 1 };
const waiting = {
  ...lease,
  stepId: 's',
  seq: 1,
  attemptNumber: 1,
  eventSeq: 1,
  awaits: { case: 'signal', value: 'n' },
};
const child = { stepId: 's', seq: 1, attemptNumber: 1, eventSeq: 1, workflowType: 'w' };
const failure = { type: 'Error', message: 'm' };
const nestedFailure = (depth: number): object =>
  depth === 0 ? failure : { ...failure, cause: nestedFailure(depth - 1) };

/** method → request → the field that must be named. */
type Case = readonly [DescService, string, object, string];
const cases: readonly Case[] = [
  [WorkflowService, 'startWorkflow', { taskQueue: 'q' }, 'workflow_type'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w' }, 'task_queue'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w'.repeat(256), taskQueue: 'q' }, 'workflow_type'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'ä'.repeat(128) }, 'task_queue'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'q', workflowId: 'a\u0000b' }, 'workflow_id'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'q', priority: 101 }, 'priority'],
  [
    WorkflowService,
    'startWorkflow',
    { workflowType: 'w', taskQueue: 'q', startDelay: { seconds: -1n } },
    'start_delay',
  ],
  [
    WorkflowService,
    'startWorkflow',
    { workflowType: 'w', taskQueue: 'q', startDelay: { seconds: 1n << 62n } },
    'start_delay',
  ],
  [
    WorkflowService,
    'startWorkflow',
    { workflowType: 'w', taskQueue: 'q', runTimeout: { seconds: 1n, nanos: -1 } },
    'run_timeout',
  ],
  [
    WorkflowService,
    'startWorkflow',
    { workflowType: 'w', taskQueue: 'q', executionTimeout: { nanos: 2_000_000_000 } },
    'execution_timeout',
  ],
  [
    WorkflowService,
    'startWorkflow',
    { workflowType: 'w', taskQueue: 'q', startTimeout: { seconds: -1n } },
    'start_timeout',
  ],
  [
    WorkflowService,
    'startWorkflow',
    { workflowType: 'w', taskQueue: 'q', chainTimeout: { seconds: 1n << 40n } },
    'chain_timeout',
  ],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'q', reusePolicy: 99 }, 'reuse_policy'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'q', maxLostLeases: 1_001 }, 'max_lost_leases'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'q', requestId: 'r'.repeat(300) }, 'request_id'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'q', build: '\n' }, 'build'],
  [WorkflowService, 'startWorkflow', { workflowType: 'w', taskQueue: 'q', namespace: 'Nope!' }, 'namespace'],
  [
    WorkflowService,
    'startWorkflow',
    { workflowType: 'w', taskQueue: 'q', input: { data: new Uint8Array(), encoding: 'e'.repeat(256) } },
    'input.encoding',
  ],
  [WorkflowService, 'executeWorkflow', {}, 'start'],
  [WorkflowService, 'executeWorkflow', { start: { workflowType: 'w' } }, 'start.task_queue'],
  [WorkflowService, 'executeWorkflow', { start: { taskQueue: 'q', namespace: 'Nope!' } }, 'start.namespace'],
  [
    WorkflowService,
    'executeWorkflow',
    { start: { workflowType: 'w', taskQueue: 'q' }, wait: { seconds: 61n } },
    'wait',
  ],
  [WorkflowService, 'startWorkflows', { runs: [] }, 'runs'],
  [
    WorkflowService,
    'startWorkflows',
    { runs: Array.from({ length: 501 }, () => ({ workflowType: 'w', taskQueue: 'q' })) },
    'runs',
  ],
  [
    WorkflowService,
    'startWorkflows',
    { runs: [{ workflowType: 'w', taskQueue: 'q' }, { taskQueue: 'q' }] },
    'runs[1].workflow_type',
  ],
  [
    WorkflowService,
    'startWorkflows',
    { runs: [{ workflowType: 'w', taskQueue: 'q', namespace: 'other' }] },
    'runs[0].namespace',
  ],
  [WorkflowService, 'getRun', { runId: 'not-a-uuid' }, 'run_id'],
  [WorkflowService, 'getRun', {}, 'run_id'],
  [WorkflowService, 'getRun', { runId, workflowId: 'both' }, 'run_id'],
  [WorkflowService, 'getRun', { workflowId: "'; drop table perdure.workflow_runs; --\u0007" }, 'workflow_id'],
  [WorkflowService, 'describeRun', { runId: '0' }, 'run_id'],
  [WorkflowService, 'listRuns', { pageSize: 1_001 }, 'page_size'],
  [WorkflowService, 'listRuns', { pageSize: -1 }, 'page_size'],
  [WorkflowService, 'listRuns', { pageToken: 'garbage' }, 'page_token'],
  [WorkflowService, 'listRuns', { statuses: [77] }, 'statuses[0]'],
  [WorkflowService, 'listRuns', { createdAfter: { seconds: 1n << 60n } }, 'created_after'],
  [WorkflowService, 'countRuns', { createdBefore: { nanos: -5 } }, 'created_before'],
  [WorkflowService, 'awaitRun', { runId, wait: { seconds: 61n } }, 'wait'],
  [WorkflowService, 'watchRun', { runId: '' }, 'run_id'],
  [WorkflowService, 'getHistory', { runId, pageSize: 5_000 }, 'page_size'],
  [WorkflowService, 'listStepAttempts', { runId }, 'step_id'],
  [WorkflowService, 'getStepAttempt', { runId, stepId: 's', attemptNumber: -1 }, 'attempt_number'],
  [WorkflowService, 'cancelRun', { runId, reason: 'r'.repeat(1_025) }, 'reason'],
  [WorkflowService, 'terminateRun', { runId, reason: '\u001b[31m' }, 'reason'],
  [WorkflowService, 'retryRun', {}, 'run_id'],
  [WorkflowService, 'retryRun', { runId, reason: 'r'.repeat(1_025) }, 'reason'],
  [WorkflowService, 'retryRun', { runId, actor: 'a'.repeat(256) }, 'actor'],
  [WorkflowService, 'retryRun', { runId, requestId: '\u0000' }, 'request_id'],
  [WorkflowService, 'listRuns', { failureFingerprint: 'not one' }, 'failure_fingerprint'],
  [WorkflowService, 'listFailures', { workflowType: 'w'.repeat(256) }, 'workflow_type'],
  [WorkflowService, 'listFailures', { pageSize: 1_001 }, 'page_size'],
  [WorkflowService, 'listFailures', { pageToken: 'garbage' }, 'page_token'],
  [WorkflowService, 'dismissRun', {}, 'run_id'],
  [WorkflowService, 'dismissRun', { runId, reason: 'r'.repeat(1_025) }, 'reason'],
  [WorkflowService, 'dismissRun', { runId, actor: 'a'.repeat(256) }, 'actor'],
  [WorkflowService, 'dismissRun', { runId, requestId: '\u0000' }, 'request_id'],
  [WorkflowService, 'startBulkOperation', {}, 'kind'],
  [WorkflowService, 'startBulkOperation', { kind: 77 }, 'kind'],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { statuses: [7] } }, 'filter.statuses[0]'],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { statuses: [1, 77] } }, 'filter.statuses[1]'],
  [
    WorkflowService,
    'startBulkOperation',
    { kind: 1, filter: { workflowType: 'w'.repeat(256) } },
    'filter.workflow_type',
  ],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { taskQueue: '\u0000' } }, 'filter.task_queue'],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { workflowId: 'w'.repeat(256) } }, 'filter.workflow_id'],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { build: 'w'.repeat(256) } }, 'filter.build'],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { parentRunId: 'x' } }, 'filter.parent_run_id'],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { compensation: 77 } }, 'filter.compensation'],
  [
    WorkflowService,
    'startBulkOperation',
    { kind: 5, filter: { failureFingerprint: 'x' } },
    'filter.failure_fingerprint',
  ],
  [WorkflowService, 'startBulkOperation', { kind: 1, filter: { createdAfter: { nanos: -5 } } }, 'filter.created_after'],
  [
    WorkflowService,
    'startBulkOperation',
    { kind: 1, filter: { createdBefore: { nanos: -5 } } },
    'filter.created_before',
  ],
  [WorkflowService, 'startBulkOperation', { kind: 1, reason: 'r'.repeat(1_025) }, 'reason'],
  [WorkflowService, 'startBulkOperation', { kind: 1, actor: 'a'.repeat(256) }, 'actor'],
  [WorkflowService, 'startBulkOperation', { kind: 1, requestId: '\u0000' }, 'request_id'],
  [WorkflowService, 'startBulkOperation', { kind: 1, rate: 10_001 }, 'rate'],
  [WorkflowService, 'startBulkOperation', { kind: 1, rate: -1 }, 'rate'],
  [WorkflowService, 'startBulkOperation', { kind: 1, signalName: 'go' }, 'signal_name'],
  [WorkflowService, 'startBulkOperation', { kind: 6 }, 'signal_name'],
  [
    WorkflowService,
    'startBulkOperation',
    { kind: 6, signalName: 's', signalPayload: { encoding: 'e'.repeat(256) } },
    'signal_payload.encoding',
  ],
  [WorkflowService, 'getBulkOperation', { operationId: 'x' }, 'operation_id'],
  [WorkflowService, 'listBulkOperations', { pageSize: 1_001 }, 'page_size'],
  [WorkflowService, 'listBulkOperations', { pageToken: 'garbage' }, 'page_token'],
  [WorkflowService, 'pauseBulkOperation', {}, 'operation_id'],
  [WorkflowService, 'resumeBulkOperation', { operationId: runId, actor: 'a'.repeat(256) }, 'actor'],
  [WorkflowService, 'abortBulkOperation', { operationId: runId, reason: 'r'.repeat(1_025) }, 'reason'],
  [WorkflowService, 'restartRun', { runId, workflowId: 'both' }, 'run_id'],
  [WorkflowService, 'restartRun', { runId, newWorkflowId: 'w'.repeat(256) }, 'new_workflow_id'],
  [WorkflowService, 'forkRun', { stepId: 's' }, 'run_id'],
  [WorkflowService, 'forkRun', { runId }, 'step_id'],
  [WorkflowService, 'forkRun', { runId, stepId: 's', newWorkflowId: 'w'.repeat(256) }, 'new_workflow_id'],
  [WorkflowService, 'forkRun', { runId, stepId: 's', reason: 'r'.repeat(1_025) }, 'reason'],
  [
    WorkflowService,
    'forkRun',
    { runId, stepId: 's', input: { value: { encoding: '\u0000' } } },
    'input.value.encoding',
  ],
  [WorkflowService, 'endStep', { stepId: 's', outcome: { case: 'skipped', value: true } }, 'run_id'],
  [WorkflowService, 'endStep', { runId, outcome: { case: 'skipped', value: true } }, 'step_id'],
  [WorkflowService, 'endStep', { runId, stepId: 's' }, 'outcome'],
  [WorkflowService, 'endStep', { runId, stepId: 's', outcome: { case: 'skipped', value: false } }, 'skipped'],
  [
    WorkflowService,
    'endStep',
    { runId, stepId: 's', outcome: { case: 'failed', value: { type: 't'.repeat(256) } } },
    'failed.type',
  ],
  [
    WorkflowService,
    'endStep',
    { runId, stepId: 's', outcome: { case: 'completed', value: { output: { encoding: '\u0000' } } } },
    'completed.output.encoding',
  ],
  [
    WorkflowService,
    'endStep',
    { runId, stepId: 's', outcome: { case: 'skipped', value: true }, actor: 'a'.repeat(256) },
    'actor',
  ],
  [WorkflowService, 'deleteRun', {}, 'run_id'],
  [WorkflowService, 'deleteRun', { runId: 'all' }, 'run_id'],
  [WorkerService, 'registerWorker', { taskQueue: 'q', slots: 1 }, 'workflow_types'],
  [WorkerService, 'registerWorker', { taskQueue: 'q', workflowTypes: ['w', ''], slots: 1 }, 'workflow_types[1]'],
  [WorkerService, 'registerWorker', { taskQueue: 'q', workflowTypes: ['w'], slots: 0 }, 'slots'],
  [
    WorkerService,
    'registerWorker',
    { taskQueue: 'q', workflowTypes: ['w'], slots: 1, leaseDuration: { nanos: 5 } },
    'lease_duration',
  ],
  [WorkerService, 'registerWorker', { taskQueue: 'q', workflowTypes: ['w'], slots: 1, workerId: 'me' }, 'worker_id'],
  [WorkerService, 'deregisterWorker', { workerId: '' }, 'worker_id'],
  [WorkerService, 'pollActivity', { workerId: uuid(), taskQueue: '' }, 'task_queue'],
  [WorkerService, 'pollActivity', { workerId: uuid(), taskQueue: 'q', wait: { seconds: 100n } }, 'wait'],
  [WorkerService, 'pollActivity', { workerId: uuid(), taskQueue: 'q', maxRuns: 1_001 }, 'max_runs'],
  [WorkerService, 'pollActivity', { workerId: uuid(), taskQueue: 'q', maxRuns: -1 }, 'max_runs'],
  [WorkerService, 'awaitNotices', { workerId: 'me' }, 'worker_id'],
  [WorkerService, 'awaitNotices', { workerId: uuid(), wait: { seconds: 61n } }, 'wait'],
  [WorkerService, 'getMemo', { ...lease, pageToken: 'x' }, 'page_token'],
  [WorkerService, 'getMemo', { ...lease, stepIds: ['a', ''] }, 'step_ids[1]'],
  [WorkerService, 'getMemo', { ...lease, stepIds: ['a'], pageToken: 'x' }, 'page_token'],
  [WorkerService, 'getMemo', { ...lease, stepIds: Array.from({ length: 10_001 }, (_, n) => `s${n}`) }, 'step_ids'],
  [WorkerService, 'recordHeartbeat', { workerId: uuid(), leases: [{ runId: 'x', leaseToken: 1 }] }, 'leases[0].run_id'],
  [
    WorkerService,
    'recordHeartbeat',
    { workerId: uuid(), leases: [{ ...lease, steps: [{ stepId: '', attemptNumber: 1 }] }] },
    'leases[0].steps[0].step_id',
  ],
  [WorkerService, 'beginStep', { ...lease, stepId: 's', seq: 0, kind: 1, attemptNumber: 1, countedAttempt: 1 }, 'seq'],
  [WorkerService, 'beginStep', { ...lease, stepId: 's', seq: 1, kind: 0, attemptNumber: 1, countedAttempt: 1 }, 'kind'],
  [WorkerService, 'beginStep', { ...lease, stepId: 's', seq: 1, kind: 2, attemptNumber: 1, countedAttempt: 1 }, 'kind'],
  [
    WorkerService,
    'beginStep',
    { ...lease, stepId: 's', seq: 1, kind: 1, attemptNumber: 0, countedAttempt: 1 },
    'attempt_number',
  ],
  [
    WorkerService,
    'beginStep',
    { runId, leaseToken: 0, stepId: 's', seq: 1, kind: 1, attemptNumber: 1, countedAttempt: 1 },
    'lease_token',
  ],
  [WorkerService, 'completeStep', { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 0 }, 'event_seq'],
  [
    WorkerService,
    'completeStep',
    { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1, output: tooBig },
    'output.data',
  ],
  [
    WorkerService,
    'completeStep',
    { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1, begin: { seq: 0, kind: 1, countedAttempt: 1 } },
    'begin.seq',
  ],
  [
    WorkerService,
    'completeStep',
    { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1, begin: { seq: 1, kind: 2, countedAttempt: 1 } },
    'begin.kind',
  ],
  [WorkerService, 'failStep', { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1 }, 'failure'],
  ...(
    [
      [{ origin: { runId: 'x' } }, 'origin.run_id'],
      [{ origin: { runId: uuid(), stepId: 's'.repeat(256) } }, 'origin.step_id'],
      [{ origin: { runId: uuid(), workflowType: 'w'.repeat(256) } }, 'origin.workflow_type'],
      [{ origin: { runId: uuid(), attempt: -1 } }, 'origin.attempt'],
      [{ origin: { runId: uuid(), maxAttempts: -1 } }, 'origin.max_attempts'],
      [{ lostLeases: Array(21).fill({ leaseToken: 1, workerId: uuid() }) }, 'lost_leases'],
      [{ lostLeases: [{ workerId: uuid() }] }, 'lost_leases[0].lease_token'],
      [{ lostLeases: [{ leaseToken: 1 }] }, 'lost_leases[0].worker_id'],
      [
        { lostLeases: [{ leaseToken: 1, workerId: uuid(), openSteps: Array(11).fill('s') }] },
        'lost_leases[0].open_steps',
      ],
      [{ lostLeases: [{ leaseToken: 1, workerId: uuid(), lostAt: { nanos: -1 } }] }, 'lost_leases[0].lost_at'],
    ] as const
  ).map(
    ([failure, path]) =>
      [
        WorkerService,
        'failStep',
        { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1, failure: { type: 'E', message: 'm', ...failure } },
        `failure.${path}`,
      ] as Case,
  ),
  [
    WorkerService,
    'failStep',
    { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1, failure: nestedFailure(17) },
    'failure.cause',
  ],
  [
    WorkerService,
    'failStep',
    { ...lease, stepId: 's', attemptNumber: 1, failure, retryAfter: { seconds: -5n } },
    'retry_after',
  ],
  [
    WorkerService,
    'failStep',
    { ...lease, stepId: 's', attemptNumber: 1, eventSeq: 1, failure: { message: 'x'.repeat(65_537) } },
    'failure.message',
  ],
  [
    WorkerService,
    'failStep',
    {
      ...lease,
      stepId: 's',
      attemptNumber: 1,
      eventSeq: 1,
      failure: { message: 'm', errors: Array.from({ length: 200_000 }, () => ({})) },
    },
    'failure.errors',
  ],
  [WorkerService, 'settleStep', { ...lease, stepId: 's', seq: 1, kind: 1, status: 5, eventSeq: 1 }, 'status'],
  [WorkerService, 'settleStep', { ...lease, stepId: 's', seq: 1, kind: 99, status: 4, eventSeq: 1 }, 'kind'],
  [WorkerService, 'settleStep', { ...lease, stepId: 's', kind: 1, status: 4, eventSeq: 1 }, 'seq'],
  [WorkerService, 'awaitStep', { ...lease, stepId: 's', seq: 1, attemptNumber: 1, eventSeq: 1 }, 'awaits'],
  [WorkerService, 'awaitStep', { ...waiting, awaits: { case: 'signal', value: 'x'.repeat(201) } }, 'signal'],
  [WorkerService, 'awaitStep', { ...waiting, awaits: { case: 'signal', value: '' } }, 'signal'],
  [WorkerService, 'awaitStep', { ...waiting, attemptNumber: 0 }, 'attempt_number'],
  [WorkerService, 'awaitStep', { ...waiting, eventSeq: 0 }, 'event_seq'],
  [WorkerService, 'awaitStep', { ...waiting, seq: 0 }, 'seq'],
  [WorkerService, 'awaitStep', { ...waiting, timeout: { seconds: -1n } }, 'timeout'],
  [WorkerService, 'takeArrivals', { ...lease }, 'event_seq'],
  [WorkerService, 'takeArrivals', { ...lease, eventSeq: 1, dueStepIds: [''] }, 'due_step_ids[0]'],
  [WorkerService, 'takeArrivals', { ...lease, eventSeq: 1, dueStepIds: Array(1_001).fill('s') }, 'due_step_ids'],
  [WorkerService, 'startChildren', { ...lease }, 'children'],
  [WorkerService, 'startChildren', { ...lease, children: Array(501).fill(child) }, 'children'],
  ...(
    [
      ['stepId', '', 'step_id'],
      ['seq', 0, 'seq'],
      ['attemptNumber', 0, 'attempt_number'],
      ['eventSeq', 0, 'event_seq'],
      ['workflowType', '', 'workflow_type'],
      ['workflowId', 'x'.repeat(256), 'workflow_id'],
      ['taskQueue', '\u0000', 'task_queue'],
      ['priority', 101, 'priority'],
      ['reusePolicy', 4, 'reuse_policy'],
      ['parentClose', 4, 'parent_close'],
      ['startDelay', { seconds: -1n }, 'start_delay'],
      ['startTimeout', { seconds: -1n }, 'start_timeout'],
      ['chainTimeout', { seconds: -1n }, 'chain_timeout'],
      ['maxLostLeases', 1_001, 'max_lost_leases'],
      ['childRunId', 'x', 'child_run_id'],
      ['input', tooBig, 'input.data'],
    ] as const
  ).map(
    ([field, value, path]) =>
      [
        WorkerService,
        'startChildren',
        { ...lease, children: [{ ...child, [field]: value }] },
        `children[0].${path}`,
      ] as Case,
  ),
  [WorkerService, 'suspendRun', { ...lease, arrivalsAwaited: 1, childrenAwaited: -1 }, 'children_awaited'],
  [WorkflowService, 'listRuns', { parentRunId: 'x' }, 'parent_run_id'],
  [WorkflowService, 'getRunTree', { runId: uuid(), maxChildren: 1_001 }, 'max_children'],
  [WorkerService, 'suspendRun', { ...lease, arrivalsAwaited: -1 }, 'arrivals_awaited'],
  [WorkflowService, 'signalRun', { runId: uuid() }, 'name'],
  [WorkflowService, 'signalRun', { name: 'n' }, 'run_id'],
  [WorkflowService, 'signalRun', { runId: uuid(), name: 'a\nb' }, 'name'],
  [WorkflowService, 'signalRun', { runId: uuid(), name: 'n', requestId: 'x'.repeat(256) }, 'request_id'],
  [WorkflowService, 'signalRun', { runId: uuid(), name: 'n', sender: 'x'.repeat(256) }, 'sender'],
  [WorkerService, 'awaitStep', { ...waiting, awaits: { case: 'update', value: false } }, 'update'],
  [WorkerService, 'answerUpdate', { ...lease, stepId: 's' }, 'answer'],
  [WorkerService, 'answerUpdate', { ...lease, answer: { case: 'completed', value: {} } }, 'step_id'],
  [
    WorkerService,
    'answerUpdate',
    { ...lease, stepId: 's', answer: { case: 'failed', value: { reason: 99 } } },
    'failed.reason',
  ],
  [
    WorkerService,
    'setRunState',
    { ...lease, seq: 1, state: { data: new Uint8Array(2 ** 21 + 1), encoding: '' } },
    'state.data',
  ],
  [WorkerService, 'setRunState', lease, 'seq'],
  [WorkflowService, 'updateRun', { runId: uuid() }, 'name'],
  [WorkflowService, 'updateRun', { name: 'n' }, 'run_id'],
  [WorkflowService, 'updateRun', { runId: uuid(), name: 'n', requestId: 'x'.repeat(256) }, 'request_id'],
  [WorkflowService, 'updateRun', { runId: uuid(), name: 'n', wait: { seconds: 61n } }, 'wait'],
  [WorkflowService, 'getRunState', {}, 'run_id'],
  [WorkflowService, 'signalWithStart', { signalName: 'n' }, 'start'],
  [
    WorkflowService,
    'signalWithStart',
    { start: { workflowType: 'w', taskQueue: 'q', workflowId: 'x' } },
    'signal_name',
  ],
  [WorkerService, 'awaitStep', { ...waiting, awaits: { case: 'event', value: { name: '' } } }, 'event.name'],
  [
    WorkerService,
    'awaitStep',
    { ...waiting, awaits: { case: 'event', value: { name: 'x'.repeat(201) } } },
    'event.name',
  ],
  [
    WorkerService,
    'awaitStep',
    { ...waiting, awaits: { case: 'event', value: { name: 'n', key: 'a\nb' } } },
    'event.key',
  ],
  [
    WorkerService,
    'awaitStep',
    {
      ...waiting,
      awaits: { case: 'event', value: { name: 'n', since: { case: 'lookBack', value: { seconds: -1n } } } },
    },
    'event.look_back',
  ],
  [
    WorkerService,
    'awaitStep',
    {
      ...waiting,
      awaits: {
        case: 'event',
        value: { name: 'n', since: { case: 'publishedAfter', value: { seconds: 10n ** 12n } } },
      },
    },
    'event.published_after',
  ],
  [WorkerService, 'awaitStep', { ...waiting, awaits: { case: 'promise', value: 'mine' } }, 'promise'],
  [WorkflowService, 'publishEvent', {}, 'name'],
  [WorkflowService, 'publishEvent', { name: 'x'.repeat(201) }, 'name'],
  [WorkflowService, 'publishEvent', { name: 'n', key: 'a\u0000b' }, 'key'],
  [WorkflowService, 'publishEvent', { name: 'n', requestId: 'x'.repeat(256) }, 'request_id'],
  [WorkflowService, 'publishEvent', { name: 'n', payload: { data: Buffer.alloc(3 * 1024 * 1024) } }, 'payload.data'],
  [WorkflowService, 'listEvents', { key: 'k' }, 'key'],
  [WorkflowService, 'listEvents', { pageSize: 1_001 }, 'page_size'],
  [WorkflowService, 'listEvents', { pageToken: 'x' }, 'page_token'],
  [WorkflowService, 'resolvePromise', {}, 'promise_id'],
  [WorkflowService, 'resolvePromise', { promiseId: 'a\nb' }, 'promise_id'],
  [WorkflowService, 'rejectPromise', { promiseId: 'p' }, 'failure'],
  [WorkflowService, 'rejectPromise', { promiseId: 'p', failure: nestedFailure(20) }, 'failure.cause'],
  [WorkflowService, 'getPromise', {}, 'promise_id'],
  [WorkflowService, 'listPromises', { runId: 'x' }, 'run_id'],
  [WorkflowService, 'listPromises', { pageSize: -1 }, 'page_size'],
  [WorkflowService, 'listPromises', { pageToken: 'x' }, 'page_token'],
  [WorkerService, 'observeCancel', { ...lease }, 'event_seq'],
  [WorkerService, 'beginCompensation', { ...lease, leaseToken: 0 }, 'lease_token'],
  [WorkerService, 'beginCompensation', { ...lease, runId: 'x' }, 'run_id'],
  [WorkflowService, 'listRuns', { compensation: 9 }, 'compensation'],
  [WorkflowService, 'countRuns', { compensation: 9 }, 'compensation'],
  [
    WorkerService,
    'failWorkflow',
    { ...lease, failure: { ...failure, compensation: { compensated: [''] } } },
    'failure.compensation.compensated[0]',
  ],
  [
    WorkerService,
    'failWorkflow',
    { ...lease, failure: { ...failure, compensation: { failed: [{ stepId: 's' }] } } },
    'failure.compensation.failed[0].failure',
  ],
  [
    WorkerService,
    'failWorkflow',
    { ...lease, failure: { ...failure, compensation: { failed: [{ failure }] } } },
    'failure.compensation.failed[0].step_id',
  ],
  [
    WorkerService,
    'failWorkflow',
    { ...lease, failure: { ...failure, compensation: { compensated: Array(1_001).fill('s') } } },
    'failure.compensation.compensated',
  ],
  [WorkerService, 'scheduleSleep', { ...lease, stepId: 's', seq: 1 }, 'when'],
  [
    WorkerService,
    'scheduleSleep',
    { ...lease, stepId: 's', seq: 1, when: { case: 'duration', value: { seconds: 400_000_000n } } },
    'duration',
  ],
  [
    WorkerService,
    'scheduleSleep',
    { ...lease, stepId: 's', seq: 1, when: { case: 'until', value: { seconds: 250_000_000_000n } } },
    'until',
  ],
  [WorkerService, 'suspendRun', { ...lease, waits: [] }, 'waits'],
  [WorkerService, 'suspendRun', { ...lease, waits: [{ stepId: 's' }] }, 'waits[0].kind'],
  [WorkerService, 'completeWorkflow', { ...lease, output: tooBig }, 'output.data'],
  ...(
    [
      [{ stepId: '' }, 'final_step.step_id'],
      [{ attemptNumber: 0 }, 'final_step.attempt_number'],
      [{ eventSeq: 0 }, 'final_step.event_seq'],
      [{ output: tooBig }, 'final_step.output.data'],
      [{ begin: undefined }, 'final_step.begin'],
      [{ begin: { seq: 0, kind: 1, countedAttempt: 1 } }, 'final_step.begin.seq'],
      [{ begin: { seq: 1, kind: 2, countedAttempt: 1 } }, 'final_step.begin.kind'],
      [{ begin: { seq: 1, kind: 1, countedAttempt: 0 } }, 'final_step.begin.counted_attempt'],
    ] as const
  ).map(
    ([wrong, field]) =>
      [
        WorkerService,
        'completeWorkflow',
        { ...lease, finalStep: { ...finalStep('last', 1), ...wrong } },
        field,
      ] as const,
  ),
  [WorkerService, 'failWorkflow', { ...lease }, 'failure'],
  [WorkerService, 'failWorkflow', { ...lease, failure, cut: { seq: 1 } }, 'cut.from.lease_token'],
  [WorkerService, 'confirmCancel', { ...lease, cut: { seq: -1 } }, 'cut.seq'],
  [WorkerService, 'confirmCancel', { runId: 'x', leaseToken: 1 }, 'run_id'],
  [WorkerService, 'continueWorkflow', { ...lease, taskQueue: 'q'.repeat(256) }, 'task_queue'],
  [WorkerService, 'continueWorkflow', { ...lease, priority: 101 }, 'priority'],
  [WorkerService, 'continueWorkflow', { ...lease, startDelay: { seconds: -1n } }, 'start_delay'],
  [WorkerService, 'releaseRun', { ...lease, delay: { seconds: 3_601n } }, 'delay'],
  [WorkerService, 'holdRun', { ...lease }, 'failure'],
  [WorkerService, 'holdRun', { ...lease, runId: 'x', failure }, 'run_id'],
  [WorkflowService, 'pauseRun', {}, 'run_id'],
  [WorkflowService, 'pauseRun', { runId, workflowId: 'w' }, 'run_id'],
  [WorkflowService, 'pauseRun', { runId: 'x' }, 'run_id'],
  [WorkflowService, 'pauseRun', { runId, reason: 'r'.repeat(1_025) }, 'reason'],
  [WorkflowService, 'pauseRun', { runId, actor: 'p'.repeat(256) }, 'actor'],
  [WorkflowService, 'resumeRun', {}, 'run_id'],
  [WorkflowService, 'resumeRun', { runId, actor: 'a\u0000b' }, 'actor'],
  [AdminService, 'pauseTaskQueue', {}, 'task_queue'],
  [AdminService, 'pauseTaskQueue', { taskQueue: 'q', reason: 'r'.repeat(1_025) }, 'reason'],
  [AdminService, 'pauseTaskQueue', { taskQueue: 'q', actor: 'p'.repeat(256) }, 'actor'],
  [AdminService, 'pauseTaskQueue', { taskQueue: 'q', namespace: 'Nope!' }, 'namespace'],
  [AdminService, 'resumeTaskQueue', { taskQueue: 'q'.repeat(256) }, 'task_queue'],
  [AdminService, 'pauseWorkflowType', {}, 'workflow_type'],
  [AdminService, 'resumeWorkflowType', {}, 'workflow_type'],
  [AdminService, 'listPauses', { namespace: 'Nope!' }, 'namespace'],
  [WorkerService, 'drainWorker', { workerId: 'w' }, 'worker_id'],
  [AdminService, 'createNamespace', { name: '' }, 'name'],
  [AdminService, 'createNamespace', { name: '9x' }, 'name'],
  [AdminService, 'createNamespace', { name: 'x', description: 'd'.repeat(1_025) }, 'description'],
  [AdminService, 'listNamespaces', { pageToken: 'x' }, 'page_token'],
  [AdminService, 'listWorkers', { statuses: [9] }, 'statuses[0]'],
  [AdminService, 'getWorker', { workerId: '' }, 'worker_id'],
  [AdminService, 'listTaskQueues', { namespace: 'A' }, 'namespace'],
  [AdminService, 'diagnose', { namespace: 'A' }, 'namespace'],
  [AdminService, 'diagnose', { recent: { seconds: 3_000_000n } }, 'recent'],
];

describe('bad input', () => {
  let perdure: TestPerdure;
  beforeAll(async () => {
    perdure = await startPerdure();
  });
  afterAll(() => perdure.stop());

  const methodOf = (service: DescService, name: string): DescMethod => {
    const method = service.methods.find(({ localName }) => localName === name);
    if (method === undefined) throw new Error(`no method ${name}`);
    return method;
  };

  const call = async (service: DescService, method: DescMethod, request: object): Promise<unknown> => {
    const client = perdure.connection.service(service) as unknown as Record<string, (request: object) => unknown>;
    const answer = (client[method.localName] as (request: object) => unknown)(create(method.input, request as never));
    if (method.methodKind !== 'server_streaming') return answer;
    for await (const message of answer as AsyncIterable<unknown>) return message;
    return undefined;
  };

  it('every RPC that has a field has a case of bad input', () => {
    const covered = new Set(cases.map(([service, method]) => `${service.name}.${method}`));
    const all = [WorkflowService, WorkerService, AdminService].flatMap((service) =>
      (service.methods as readonly DescMethod[])
        .filter(({ input }) => input.fields.length > 0)
        .map(({ localName }) => `${service.name}.${localName}`),
    );
    expect(all.filter((name) => !covered.has(name))).toEqual([]);
  });

  it.each(cases.map((row, index) => [`${index} ${row[1]} → ${row[3]}`, row] as const))(
    '%s',
    async (_, [service, name, request, field]) => {
      const error: RpcError = await refusal(call(service, methodOf(service, name), request) as Promise<unknown>);
      expect(error).toMatchObject({ status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
      expect(error.violations.map((violation) => violation.field)).toContain(field);
      expect(error.message).toContain(field);
    },
  );

  it('a refusal names every wrong field, not only the first', async () => {
    const error = await refusal(perdure.workflows.startWorkflow({ priority: 1_000, namespace: 'X' }));
    expect(error.violations.map(({ field }) => field).sort()).toEqual([
      'namespace',
      'priority',
      'task_queue',
      'workflow_type',
    ]);
  });

  it('a refusal lists as many violations as fit an answer, over unary calls too, and counts the rest', async () => {
    const unary = new Connection({ address: perdure.server.grpcAddress, session: false });
    const bad = '\u0001'.repeat(300);
    const runs = Array.from({ length: 200 }, () => ({ workflowType: bad, taskQueue: bad, workflowId: bad }));
    try {
      const error = await refusal(unary.service(WorkflowService).startWorkflows({ runs }));
      expect(error).toMatchObject({ status: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' });
      expect(error.violations[0]?.field).toBe('runs[0].workflow_id');
      expect(error.message).toMatch(/\d+ more violations are not listed\.$/);
      expect(error.message.length).toBeLessThan(2_000);
      expect(JSON.stringify(error.violations).length).toBeLessThan(10_000);
      expect(error.metadata.violations).toBe('1200');
    } finally {
      unary.close();
    }
  });

  it('what does not exist is NOT_FOUND, with a message that says so', async () => {
    const { workflows } = perdure;
    for (const call of [
      () => workflows.getRun({ runId }),
      () => workflows.describeRun({ runId }),
      () => workflows.awaitRun({ runId }),
      () => workflows.getHistory({ runId }),
      () => workflows.cancelRun({ runId }),
      () => workflows.terminateRun({ runId }),
      () => workflows.deleteRun({ runId }),
    ]) {
      expect(await refusal(call() as Promise<unknown>)).toMatchObject({
        status: 'NOT_FOUND',
        reason: 'RUN_NOT_FOUND',
      });
    }
    const started = await perdure.workflows.startWorkflow({ workflowType: 'w', taskQueue: 'q' });
    const step = perdure.workflows.getStepAttempt({ runId: started.runId, stepId: 'none' });
    expect((await refusal(step)).reason).toBe('STEP_NOT_FOUND');
    expect((await refusal(perdure.admin.getWorker({ workerId: uuid() }))).reason).toBe('WORKER_NOT_FOUND');
    expect((await refusal(perdure.workers.drainWorker({ workerId: uuid() }))).reason).toBe('WORKER_NOT_FOUND');
  });

  it('bytes that are no message of the type are INVALID_ARGUMENT on every RPC', async () => {
    const client = new grpc.Client(perdure.server.grpcAddress, grpc.credentials.createInsecure());
    const garbage = Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]);
    for (const service of [WorkflowService, WorkerService, AdminService]) {
      for (const method of service.methods as readonly DescMethod[]) {
        const code = await new Promise<number | undefined>((resolve) => {
          const path = `/${service.typeName}/${method.name}`;
          if (method.methodKind === 'server_streaming') {
            const stream = client.makeServerStreamRequest(
              path,
              () => garbage,
              (bytes) => bytes,
              {},
              new grpc.Metadata(),
            );
            stream.on('error', (error: grpc.ServiceError) => resolve(error.code));
            stream.on('data', () => undefined);
          } else
            client.makeUnaryRequest(
              path,
              () => garbage,
              (bytes) => bytes,
              {},
              (error) => resolve(error?.code),
            );
        });
        expect([method.name, code]).toEqual([method.name, grpc.status.INVALID_ARGUMENT]);
      }
    }
    client.close();
  });

  it('random mutations of valid requests never end in INTERNAL, and the server continues', async () => {
    const client = new grpc.Client(perdure.server.grpcAddress, grpc.credentials.createInsecure());
    let seed = 42;
    const random = (below: number) => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    const requests = cases.filter(
      ([, name]) =>
        !['watchRun', 'pollActivity', 'awaitRun', 'awaitNotices', 'executeWorkflow', 'updateRun'].includes(name),
    );
    for (let round = 0; round < 400; round++) {
      const [service, name, request] = requests[random(requests.length)] as (typeof cases)[number];
      const method = methodOf(service, name);
      const bytes = Buffer.from(toBinary(method.input, create(method.input, request as never)));
      if (bytes.length > 100_000) continue;
      for (let n = 0; n < 1 + random(4) && bytes.length > 0; n++) bytes[random(bytes.length)] = random(256);
      const code = await new Promise<number | undefined>((resolve) => {
        client.makeUnaryRequest(
          `/${service.typeName}/${method.name}`,
          () => bytes,
          (out) => out,
          {},
          (error) => resolve(error?.code),
        );
      });
      expect([undefined, 3, 5, 6, 9]).toContain(code);
    }
    client.close();
    expect((await perdure.admin.getServerInfo({})).version).not.toBe('');
  }, 60_000);

  it('a message beyond the frame limit is refused, and the connection stays open', async () => {
    const huge = { data: new Uint8Array(8 * 1024 * 1024), encoding: '' };
    const error = await refusal(perdure.workflows.startWorkflow({ workflowType: 'w', taskQueue: 'q', input: huge }));
    expect(error.status).toBe('RESOURCE_EXHAUSTED');
    expect((await perdure.admin.getServerInfo({})).version).not.toBe('');
  });

  it('the SDK refuses an address and options that cannot be used, and says what is expected', async () => {
    expect(() => new Connection({ address: 'nowhere' })).toThrow(/host:port/);
  });
});
