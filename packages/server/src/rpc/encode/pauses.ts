/** Pauses as protobuf messages. */
import { create } from '@bufbuild/protobuf';
import {
  type DispatchPause as DispatchPauseMessage,
  DispatchPauseSchema,
  type RunPause as RunPauseMessage,
  RunPauseSchema,
} from '@perdure/proto';
import type { DispatchPause, RunPause } from '@perdure/store';
import { dispatchKindNumber } from '../enums.js';
import { optionalFailure } from './failure.js';
import { optionalTimestamp, timestampOf } from './time.js';

export function runPauseMessage(pause: RunPause): RunPauseMessage {
  return create(RunPauseSchema, {
    pausedAt: timestampOf(pause.pausedAt),
    pausedBy: pause.pausedBy,
    reason: pause.reason,
    resumedBy: pause.resumedBy ?? '',
    ...optionalTimestamp('resumedAt', pause.resumedAt),
    ...optionalFailure(pause.failure),
  });
}

export function dispatchPauseMessage(pause: DispatchPause): DispatchPauseMessage {
  return create(DispatchPauseSchema, {
    kind: dispatchKindNumber[pause.kind],
    name: pause.name,
    pausedAt: timestampOf(pause.pausedAt),
    pausedBy: pause.pausedBy,
    reason: pause.reason,
  });
}
