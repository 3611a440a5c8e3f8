import type { WorkerService } from '@perdure/proto';
import type { ServiceClient } from './connection.js';

/** The calls that a worker makes. */
export type WorkerTransport = ServiceClient<typeof WorkerService>;
