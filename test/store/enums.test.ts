import { FailureReason, RunStatus, StepKind, StepStatus, WorkerStatus } from '@perdure/proto';
import {
  FAILURE_REASONS,
  RUN_STATUSES,
  STEP_KINDS,
  STEP_STATUSES,
  TERMINAL_STATUSES,
  WORKER_STATUSES,
  YIELD_REASONS,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';

describe('the values of a closed set are the same', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  /** What a CHECK of the schema lists. */
  const allowedBy = async (table: string, constraint: string) => {
    const [row] = await database.sql<{ text: string }[]>`
      select pg_get_constraintdef(oid) as text from pg_constraint
      where conrelid = ${`perdure.${table}`}::regclass and conname = ${constraint}`;
    return [...(row?.text ?? '').matchAll(/'([A-Z_]+)'/g)].map((match) => match[1]).sort();
  };
  const checks = {
    workflow_runs_status_check: ['workflow_runs', RUN_STATUSES],
    workflow_runs_yield_reason_check: ['workflow_runs', YIELD_REASONS],
    finished_iff_terminal: ['workflow_runs', TERMINAL_STATUSES],
    step_runs_status_check: ['step_runs', STEP_STATUSES],
    step_runs_kind_check: ['step_runs', STEP_KINDS],
    workers_status_check: ['workers', WORKER_STATUSES],
  } as const;
  for (const [constraint, [table, values]] of Object.entries(checks)) {
    it(`the code and ${constraint} of the schema have the same values`, async () => {
      expect(await allowedBy(table, constraint)).toEqual([...values].sort());
    });
  }

  const enums = [
    ['RunStatus', RunStatus, RUN_STATUSES],
    ['StepStatus', StepStatus, STEP_STATUSES],
    ['StepKind', StepKind, STEP_KINDS],
    ['WorkerStatus', WorkerStatus, WORKER_STATUSES],
    ['FailureReason', FailureReason, FAILURE_REASONS],
  ] as const;
  for (const [name, protocol, values] of enums) {
    it(`the code and the enum ${name} of the contract have the same values`, () => {
      const names = Object.values(protocol).filter((value) => typeof value === 'string' && value !== 'UNSPECIFIED');
      expect(names.sort()).toEqual([...values].sort());
    });
  }
});
