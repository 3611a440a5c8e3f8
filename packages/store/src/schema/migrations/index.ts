import { core } from './0001-core.js';
import { arrivals } from './0002-arrivals.js';
import { children } from './0003-children.js';
import { events } from './0004-events.js';
import { updates } from './0005-updates.js';
import { pauses } from './0006-pauses.js';
import { keepers } from './0007-keepers.js';
import { control } from './0008-control.js';
import { compensations } from './0009-compensations.js';
import { byHand } from './0010-by-hand.js';
import { bulkOperations } from './0011-bulk-operations.js';
import { deadLetters } from './0011-dead-letters.js';
import { failures } from './0012-failures.js';
import { cheapChecks } from './0013-cheap-checks.js';

export interface Migration {
  /** From 1, rising. */
  readonly version: number;
  readonly name: string;
  readonly sql: string;
}

/** Forward only: a released migration is never changed; another one follows it. */
export const MIGRATIONS: readonly Migration[] = [
  { version: 1, name: 'core', sql: core },
  { version: 2, name: 'arrivals', sql: arrivals },
  { version: 3, name: 'children', sql: children },
  { version: 4, name: 'events', sql: events },
  { version: 5, name: 'updates', sql: updates },
  { version: 6, name: 'pauses', sql: pauses },
  { version: 7, name: 'keepers', sql: keepers },
  { version: 8, name: 'control', sql: control },
  { version: 9, name: 'compensations', sql: compensations },
  { version: 10, name: 'by-hand', sql: byHand },
  { version: 11, name: 'dead-letters', sql: deadLetters + bulkOperations },
  { version: 12, name: 'failures', sql: failures },
  { version: 13, name: 'cheap-checks', sql: cheapChecks },
];
