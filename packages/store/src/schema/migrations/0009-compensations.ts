/** Compensations: what a run has done is undone when it fails or is cancelled. */
export const compensations = `
-- Null: nothing of the run has been compensated, as of nearly all runs.
alter table perdure.workflow_runs
  add column compensation text check (compensation in ('COMPENSATING', 'COMPLETE', 'PARTIAL'));
-- Rows from before are null.
alter table perdure.workflow_runs
  add constraint compensating_is_open check (
    compensation <> 'COMPENSATING' or status not in ('COMPLETED', 'FAILED', 'CANCELLED', 'TERMINATED')) not valid;
create index workflow_runs_compensation on perdure.workflow_runs (namespace, compensation, run_id) where compensation is not null;
`;
