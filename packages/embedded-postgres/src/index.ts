export { type EmbeddedPostgres, type EmbeddedPostgresOptions, startEmbeddedPostgres } from './embedded-postgres.js';
export { EmbeddedPostgresError, type EmbeddedPostgresProblem } from './embedded-postgres-error.js';
