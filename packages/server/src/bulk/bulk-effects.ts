import type { BulkAct } from '@perdure/store';
import {
  afterCancel,
  afterPause,
  afterResume,
  afterRetryRun,
  afterSignal,
  afterTerminate,
  type Effect,
} from '../commands/after-commit.js';

/** Who is notified of what a chunk has done: the same as after single commands. */
export function bulkEffects(act: BulkAct): readonly Effect[] {
  switch (act.kind) {
    case 'CANCEL':
      return afterCancel(act.command, act.outcome);
    case 'TERMINATE':
      return afterTerminate(act.command, act.outcome);
    case 'PAUSE':
      return afterPause(act.command, act.outcome);
    case 'RESUME':
      return afterResume(undefined, act.outcome);
    case 'RETRY':
      return afterRetryRun(undefined, act.outcome);
    case 'SIGNAL':
      return afterSignal(act.command, act.outcome);
    case 'DELETE':
    case 'DISMISS':
      return [];
  }
}
