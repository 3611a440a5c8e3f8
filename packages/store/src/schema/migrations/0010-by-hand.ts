/** People decide about single steps of runs. */
import { cuts } from './0010-cuts.js';
import { forks } from './0010-forks.js';
import { redrives } from './0010-redrives.js';
import { stepsByHand } from './0010-steps-by-hand.js';

const tables = `
lock table perdure.workflow_runs, perdure.step_runs in access exclusive mode;

alter table perdure.step_runs
  -- The action of a person that has ended the attempt; see perdure.run_actions. Null, as for nearly all.
  add column action_seq integer;
alter table perdure.run_actions
  drop constraint run_actions_kind_check,
  add constraint run_actions_kind_check check (kind in ('RETRY', 'RESTART', 'COMPLETE_STEP', 'FAIL_STEP', 'SKIP_STEP', 'FORK'));
`;

export const byHand = tables + stepsByHand + forks + cuts + redrives;
