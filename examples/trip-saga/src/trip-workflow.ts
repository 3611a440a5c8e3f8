import { TerminalError, workflow } from 'perdure';
import type { Agency, Booking, Failures } from './agency.js';

export const TASK_QUEUE = 'trips';

export interface Trip {
  readonly tripId: string;
  readonly failures: Failures;
  /** How long the traveller has to confirm, in ms; 0: need not. */
  readonly confirmWithinMs: number;
}

export const tripWorkflow = (agency: Agency) =>
  workflow('trip', async (ctx, { tripId, failures, confirmWithinMs }: Trip) => {
    const book = async (booking: Booking) => {
      // Registered before: a try that fails may have booked nevertheless. Cancelling what was not booked does nothing.
      ctx.onCompensate(booking, ({ idempotencyKey }) => agency.cancel(tripId, booking, idempotencyKey, failures), {
        retry: { maxAttempts: 3, initial: '50 ms' },
      });
      await ctx.step(`book ${booking}`, ({ idempotencyKey }) => {
        if (failures.booking === booking) throw new TerminalError(`there is no ${booking}`);
        agency.book(tripId, booking, idempotencyKey);
      });
    };
    await book('flight');
    await book('hotel');
    await book('car');
    if (confirmWithinMs > 0) {
      const confirmed = await ctx.waitForSignal('confirmed', { timeout: confirmWithinMs });
      if (confirmed === null) throw new TerminalError('nobody confirmed the trip');
    }
    return 'have a good trip';
  });
