import type { Database } from '@perdure/store';
import type { Logger } from 'pino';
import type { BulkRunner } from './bulk/bulk-runner.js';
import type { Commands } from './commands/commands.js';
import type { ServerConfig } from './config.js';
import type { AnswerWaiters } from './dispatch/answer-waiters.js';
import type { Dispatcher } from './dispatch/dispatcher.js';
import type { EndWaiters } from './dispatch/end-waiters.js';
import type { Notices } from './dispatch/notices.js';
import type { Registrations } from './dispatch/registrations.js';
import type { Wakeups } from './dispatch/wakeups.js';
import type { ReadPool } from './reads/read-pool.js';

/** What all services use. */
export interface ServerContext {
  readonly config: ServerConfig;
  readonly log: Logger;
  readonly db: Database;
  /** For lists, counts and histories, which never delay commands. */
  readonly reads: ReadPool;
  readonly commands: Commands;
  readonly bulk: BulkRunner;
  readonly dispatcher: Dispatcher;
  readonly endWaiters: EndWaiters;
  readonly answerWaiters: AnswerWaiters;
  readonly notices: Notices;
  readonly wakeups: Wakeups;
  readonly registrations: Registrations;
  readonly serverId: string;
  readonly startedAt: Date;
  /** Aborted when the server stops. */
  readonly stopping: AbortSignal;
}
