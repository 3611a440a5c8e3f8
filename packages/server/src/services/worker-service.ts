import type { WorkerService } from '@perdure/proto';
import type { Handlers } from '../call/handlers.js';
import type { ServerContext } from '../context.js';
import { leasedArrivals } from './leased-arrivals.js';
import { leasedChildren } from './leased-children.js';
import { leasedRuns } from './leased-runs.js';
import { leasedSteps } from './leased-steps.js';
import { workerFleet } from './worker-fleet.js';

/** The RPCs of workers; each part has its own file. */
export function workerService(context: ServerContext): Handlers<typeof WorkerService> {
  return {
    ...workerFleet(context),
    ...leasedRuns(context),
    ...leasedSteps(context),
    ...leasedArrivals(context),
    ...leasedChildren(context),
  };
}
