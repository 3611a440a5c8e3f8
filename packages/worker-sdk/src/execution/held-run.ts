import type { HeartbeatDetail, Heartbeats } from './body/heartbeats.js';
import type { Lease } from './lease/lease.js';
import type { LeaseLoss } from './lease/lease-loss.js';

/** A run as the worker's lease keeper sees it. */
export interface HeldRun {
  readonly lease: Lease;
  readonly heartbeats: Heartbeats;
  readonly calls: { readonly isYielding: boolean };
  /** The details to send; see {@link Heartbeats.take}. */
  takeHeartbeats(maxBytes: number): readonly HeartbeatDetail[];
  /** A cancel is requested. */
  cancel(): void;
  /** The run is paused: it is given back when its bodies have ended. */
  pause(): void;
  /** Something has come from outside for a step of the run. */
  arrived(): void;
  loseLease(how: LeaseLoss): void;
}
