import type { WorkerService, WorkflowService } from '@perdure/proto';
import type { ServiceClient } from './connection.js';

/** The calls that a worker makes. */
export type WorkerTransport = ServiceClient<typeof WorkerService>;

/** The calls about other runs that a workflow's code makes through its worker. */
export type RunService = ServiceClient<typeof WorkflowService>;
