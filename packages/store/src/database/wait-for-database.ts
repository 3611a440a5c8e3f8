import { setTimeout as delay } from 'node:timers/promises';
import { schemaVersion } from '../reads/read-database-facts.js';
import { LATEST_SCHEMA_VERSION } from '../schema/migrate.js';
import type { Database } from './database.js';
import { codeOf, DatabaseUnavailableError } from './errors.js';

/** Why a process cannot use its database. */
export type DatabaseProblem = 'unavailable' | 'refused' | 'not_migrated';

/** The database cannot be used; the message says why and what to do. */
export class DatabaseNotReadyError extends Error {
  override readonly name = 'DatabaseNotReadyError';
  readonly problem: DatabaseProblem;

  constructor(problem: DatabaseProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.problem = problem;
  }
}

const LOOK_MS = 250;

export interface DatabaseWait {
  /** Longest wait, in ms; 0 checks once. */
  readonly waitMs: number;
  /** Called once, with the reason, when the database is not ready at the first check. */
  readonly onWaiting?: (problem: DatabaseNotReadyError) => void;
  /** Ends the wait with the signal's reason. */
  readonly signal?: AbortSignal;
}

/**
 * Waits until the database answers and has the schema that this build needs. A wrong password, role or database name
 * is thrown at once, because waiting does not help.
 *
 * @throws {DatabaseNotReadyError} when the database is not ready within `waitMs`
 */
export async function waitForDatabase(db: Database, { waitMs, onWaiting, signal }: DatabaseWait): Promise<void> {
  const untilMs = performance.now() + waitMs;
  for (let isFirst = true; ; isFirst = false) {
    signal?.throwIfAborted();
    const problem = await problemOf(db);
    if (problem === undefined) return;
    if (problem.problem === 'refused' || performance.now() >= untilMs) throw problem;
    if (isFirst) onWaiting?.(problem);
    await delay(LOOK_MS);
  }
}

async function problemOf(db: Database): Promise<DatabaseNotReadyError | undefined> {
  try {
    const version = await schemaVersion(db);
    if (version >= LATEST_SCHEMA_VERSION) return undefined;
    return new DatabaseNotReadyError(
      'not_migrated',
      `The database has schema version ${version}, and this build needs ${LATEST_SCHEMA_VERSION}. Run \`perdure migrate\`.`,
    );
  } catch (error) {
    const problem = databaseProblemOf(error);
    if (problem === undefined) throw error;
    return problem;
  }
}

/** Whether an error of the driver, or of {@link migrate}, means that the database cannot be used; undefined when not. */
export function databaseProblemOf(error: unknown): DatabaseNotReadyError | undefined {
  if (error instanceof DatabaseNotReadyError) return error;
  const code = codeOf(error);
  const message = (error instanceof Error && error.message) || code || String(error);
  const cause = { cause: error };
  if (error instanceof DatabaseUnavailableError || UNREACHABLE.test(code)) {
    return new DatabaseNotReadyError('unavailable', `The database cannot be reached: ${message}`, cause);
  }
  if (code === 'ERR_INVALID_URL') {
    return new DatabaseNotReadyError(
      'refused',
      'The connection string is not a URL. Expected: postgres://role:password@host:5432/database',
    );
  }
  // A database that does not exist, a role or password that is not accepted, missing rights.
  if (code === '3D000' || code === '42501' || code.startsWith('28')) {
    return new DatabaseNotReadyError(
      'refused',
      `PostgreSQL refused the connection or the statement: ${message}. Check the role, the password and the database name in the connection string.`,
      cause,
    );
  }
  return undefined;
}

const UNREACHABLE = /^(ECONN|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|CONNECT|57P|53|08)/;
