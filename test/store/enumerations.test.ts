import { FailureReason, RunStatus, StepKind, StepStatus, WorkerStatus } from '@perdure/proto';
import {
  FAILURE_REASONS,
  RUN_STATUSES,
  STEP_KINDS,
  STEP_STATUSES,
  WORKER_STATUSES,
  YIELD_REASONS,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';

interface Enumeration {
  readonly model: readonly string[];
  /** Undefined: not part of the contract. */
  readonly proto?: Readonly<Record<string, string | number>>;
  /** Undefined: kept inside a JSON document, which no CHECK looks into. */
  readonly column?: readonly [table: string, column: string];
}

const ENUMERATIONS: Readonly<Record<string, Enumeration>> = {
  'run statuses': { model: RUN_STATUSES, proto: RunStatus, column: ['workflow_runs', 'status'] },
  'yield reasons': { model: YIELD_REASONS, column: ['workflow_runs', 'yield_reason'] },
  'step statuses': { model: STEP_STATUSES, proto: StepStatus, column: ['step_runs', 'status'] },
  'step kinds': { model: STEP_KINDS, proto: StepKind, column: ['step_runs', 'kind'] },
  'worker statuses': { model: WORKER_STATUSES, proto: WorkerStatus, column: ['workers', 'status'] },
  'failure reasons': { model: FAILURE_REASONS, proto: FailureReason },
};

describe('enumerations', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  for (const [name, { model, proto, column }] of Object.entries(ENUMERATIONS)) {
    const sorted = [...model].sort();

    if (proto !== undefined) {
      it(`${name} have the same names in the contract as in the store`, () => {
        const names = Object.keys(proto).filter((key) => typeof proto[key] === 'number' && key !== 'UNSPECIFIED');
        expect(names.sort()).toEqual(sorted);
      });
    }

    if (column !== undefined) {
      it(`${name} have the same names in the schema as in the store`, async () => {
        const [table, field] = column;
        const [row] = await database.sql`select pg_get_constraintdef(oid) as definition from pg_constraint
          where conrelid = ${`perdure.${table}`}::regclass and conname = ${`${table}_${field}_check`}`;
        const names = [...String(row?.definition).matchAll(/'([A-Z_]+)'/g)].map(([, value]) => value);
        expect(names.sort()).toEqual(sorted);
      });
    }
  }
});
