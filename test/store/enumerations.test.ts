import {
  BulkActionKind,
  BulkKind,
  BulkStatus,
  FailureReason,
  RunActionKind,
  RunStatus,
  StepKind,
  StepStatus,
  WorkerStatus,
} from '@perdure/proto';
import {
  BULK_ACTION_KINDS,
  BULK_KINDS,
  BULK_STATUSES,
  FAILURE_REASONS,
  RUN_ACTION_KINDS,
  RUN_STATUSES,
  STEP_KINDS,
  STEP_STATUSES,
  TERMINAL_STATUSES,
  WORKER_STATUSES,
  YIELD_REASONS,
} from '@perdure/store';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createDatabase, type TestDatabase } from '../support/database.js';

interface Enumeration {
  readonly model: readonly string[];
  /** Undefined: not part of the contract. */
  readonly proto?: Readonly<Record<string, string | number>>;
  /** What of the schema lists them: the text with the list. Undefined: kept inside a JSON document, which no check looks into. */
  readonly listedBy?: readonly [source: 'is_valid_run' | 'is_valid_step' | `${string}_check`, before: RegExp];
}

const ENUMERATIONS: Readonly<Record<string, Enumeration>> = {
  'run statuses': { model: RUN_STATUSES, proto: RunStatus, listedBy: ['is_valid_run', /return status in \(/] },
  'terminal statuses': {
    model: TERMINAL_STATUSES,
    listedBy: ['is_valid_run', /finished_at is not null\) = \(status in \(/],
  },
  'yield reasons': { model: YIELD_REASONS, listedBy: ['is_valid_run', /yield_reason in\s+\(/] },
  'step statuses': { model: STEP_STATUSES, proto: StepStatus, listedBy: ['is_valid_step', /return status in \(/] },
  'step kinds': { model: STEP_KINDS, proto: StepKind, listedBy: ['is_valid_step', /and kind in \(/] },
  'worker statuses': {
    model: WORKER_STATUSES,
    proto: WorkerStatus,
    listedBy: ['workers_status_check', /ANY \(ARRAY\[/],
  },
  'kinds of actions on runs': {
    model: RUN_ACTION_KINDS,
    proto: RunActionKind,
    listedBy: ['run_actions_kind_check', /ANY \(ARRAY\[/],
  },
  'kinds of bulk operations': {
    model: BULK_KINDS,
    proto: BulkKind,
    listedBy: ['bulk_operations_kind_check', /ANY \(ARRAY\[/],
  },
  'statuses of bulk operations': {
    model: BULK_STATUSES,
    proto: BulkStatus,
    listedBy: ['bulk_operations_status_check', /ANY \(ARRAY\[/],
  },
  'kinds of actions on bulk operations': { model: BULK_ACTION_KINDS, proto: BulkActionKind },
  'failure reasons': { model: FAILURE_REASONS, proto: FailureReason },
};

describe('enumerations', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createDatabase();
  });
  afterAll(() => database.drop());

  for (const [name, { model, proto, listedBy }] of Object.entries(ENUMERATIONS)) {
    const sorted = [...model].sort();

    if (proto !== undefined) {
      it(`${name} have the same names in the contract as in the store`, () => {
        const names = Object.keys(proto).filter((key) => typeof proto[key] === 'number' && key !== 'UNSPECIFIED');
        expect(names.sort()).toEqual(sorted);
      });
    }

    if (listedBy !== undefined) {
      it(`${name} have the same names in the schema as in the store`, async () => {
        const [source, before] = listedBy;
        const [row] = await database.sql<{ text: string }[]>`
          select prosrc as text from pg_proc where proname = ${source} and pronamespace = 'perdure'::regnamespace
          union all select pg_get_constraintdef(oid) from pg_constraint where conname = ${source}`;
        const [list] = (row?.text.split(before)[1] ?? '').split(/[)\]]/);
        const names = [...String(list).matchAll(/'([A-Z_]+)'/g)].map(([, value]) => value);
        expect(names.sort()).toEqual(sorted);
      });
    }
  }
});
