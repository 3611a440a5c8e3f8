/** Requests about updates, states and signals with starts, as commands. */
import { create } from '@bufbuild/protobuf';
import {
  type AnswerUpdateRequest,
  type SetRunStateRequest,
  type SignalWithStartRequest,
  StartWorkflowRequestSchema,
  type UpdateRunRequest,
} from '@perdure/proto';
import type { AnswerUpdate, RunRef, SendUpdate, SetRunState, SignalWithStart, UpdateAnswer } from '@perdure/store';
import { v7 as newUuid } from 'uuid';
import type { Checker } from './checker.js';
import { decodeFailure } from './failure.js';
import { decodeName } from './name.js';
import { decodeWait } from './wait.js';
import { decodeLease, MAX_INT32 } from './worker-requests.js';
import { decodeRunRef, decodeStart } from './workflow-requests.js';

/** An update to a run that is named by its run id or its workflow id. */
export interface UpdateRequest extends Pick<SendUpdate, 'name' | 'payload' | 'requestId' | 'sender'> {
  readonly ref: RunRef;
  readonly waitMs: number;
}

export function decodeUpdateRun(check: Checker, request: UpdateRunRequest): UpdateRequest {
  return {
    ref: decodeRunRef(check, request),
    name: decodeName(check, 'name', request.name),
    payload: check.payload('payload', request.payload),
    requestId: check.optionalId('request_id', request.requestId) || newUuid(),
    sender: check.optionalId('sender', request.sender),
    waitMs: decodeWait(check, request.wait),
  };
}

export function decodeAnswerUpdate(check: Checker, request: AnswerUpdateRequest): AnswerUpdate {
  return {
    ...decodeLease(check, request),
    stepId: check.id('step_id', request.stepId),
    answer: decodeAnswer(check, request.answer),
  };
}

function decodeAnswer(check: Checker, answer: AnswerUpdateRequest['answer']): UpdateAnswer {
  switch (answer.case) {
    case 'completed':
      return { kind: 'COMPLETED', output: check.payload('completed.output', answer.value.output) };
    case 'failed':
      return { kind: 'FAILED', failure: decodeFailure(check, 'failed', answer.value) };
    case 'refused':
      return {
        kind: 'REFUSED',
        failure: { ...decodeFailure(check, 'refused', answer.value), reason: 'UPDATE_REFUSED' },
      };
    case undefined:
      check.violate('answer', 'must be given: completed, failed or refused.');
      return { kind: 'COMPLETED', output: null };
  }
}

export function decodeSetRunState(check: Checker, request: SetRunStateRequest): SetRunState {
  return {
    ...decodeLease(check, request),
    state: check.payload('state', request.state),
    seq: check.integer('seq', request.seq, 1, MAX_INT32),
  };
}

export function decodeSignalWithStart(
  check: Checker,
  request: SignalWithStartRequest,
): Omit<SignalWithStart, 'maxUnconsumed'> {
  if (request.start === undefined) check.violate('start', 'must be given.');
  const given = request.start ?? create(StartWorkflowRequestSchema);
  if (request.start !== undefined && given.workflowId === '') {
    check.violate('start.workflow_id', 'must be given: it names the run to signal.');
  }
  const start = decodeStart(check, given, 'start.');
  if (start.reusePolicy === 'TERMINATE_EXISTING') {
    check.violate('start.reuse_policy', 'must not be TERMINATE_EXISTING: an open run is signalled, not replaced.');
  }
  return {
    start,
    requestId: given.requestId || null,
    name: decodeName(check, 'signal_name', request.signalName),
    payload: check.payload('signal_payload', request.signalPayload),
    sender: check.optionalId('sender', request.sender),
  };
}
