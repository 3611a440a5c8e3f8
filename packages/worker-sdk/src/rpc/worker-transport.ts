import type { WorkerService } from '@perdure/proto';
import type { ServiceClient } from './connection.js';

/** What a worker needs of the server. Unary calls serve it; so would any other way to carry the same commands. */
export type WorkerTransport = ServiceClient<typeof WorkerService>;
