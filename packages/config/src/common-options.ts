import { defineOptions } from './options.js';

/** Options of every process that uses the database. */
export const databaseOptions = defineOptions({
  databaseUrl: {
    kind: 'string',
    env: 'DATABASE_URL',
    flag: 'database-url',
    secret: true,
    description: 'Connection string of the PostgreSQL database',
  },
  preparedStatements: {
    kind: 'boolean',
    env: 'PERDURE_PREPARED_STATEMENTS',
    flag: 'prepared-statements',
    default: true,
    description: 'Use prepared statements; false behind a pooler in transaction mode that cannot keep them',
  },
  startupParameters: {
    kind: 'boolean',
    env: 'PERDURE_STARTUP_PARAMETERS',
    flag: 'startup-parameters',
    default: true,
    description:
      'Send planner settings when a connection begins; false behind a pooler that refuses them (then set them for the role)',
  },
  wakeup: {
    kind: 'enum',
    env: 'PERDURE_WAKEUP',
    flag: 'wakeup',
    values: ['notify', 'poll'],
    default: 'notify',
    description: 'How processes wake each other: LISTEN/NOTIFY, or polling only',
  },
});

export const logOptions = defineOptions({
  logLevel: {
    kind: 'enum',
    env: 'PERDURE_LOG_LEVEL',
    flag: 'log-level',
    values: ['trace', 'debug', 'info', 'warn', 'error', 'silent'],
    default: 'info',
    description: 'Least severe log lines to write',
  },
});
