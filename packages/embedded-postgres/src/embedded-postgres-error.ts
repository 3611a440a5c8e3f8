/**
 * Why the embedded PostgreSQL cannot run: another process uses the folder; the account that PostgreSQL must run under cannot
 * use the folder or the programs; there are no programs for this platform; PostgreSQL itself did not start.
 */
export type EmbeddedPostgresProblem = 'folder_in_use' | 'not_accessible' | 'no_binaries' | 'not_started';

/** The embedded PostgreSQL cannot run; the message says why and what to do. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
  readonly problem: EmbeddedPostgresProblem;

  constructor(problem: EmbeddedPostgresProblem, message: string, options?: ErrorOptions) {
    super(message, options);
    this.problem = problem;
  }
}
