import { signal, update, type Workflow, workflow } from 'perdure';

export interface Subscription {
  readonly customer: string;
  readonly cents: number;
  /** Months that are paid. */
  readonly months: number;
}

/** Charges a customer; the key is that of the month, so that a repeat charges nothing twice. */
export type Charge = (customer: string, cents: number, key: string) => void;

/** The customer cancels the subscription, at the end of the month. */
export const unsubscribe = signal<string>('unsubscribe');
/** Another price from the next month on; answers with the old one. */
export const changePrice = update<number, number>('change price', {
  validate: (cents) => {
    if (cents <= 0) throw new Error('A price must be positive.');
  },
});

export const TASK_QUEUE = 'subscriptions';

/** One run for each month: however long the subscription lasts, no run has more than a month of history. */
export function subscriptionWorkflow(charge: Charge): Workflow<Subscription, string> {
  return workflow('subscription', async (ctx, { customer, cents, months }: Subscription): Promise<string> => {
    let price = cents;
    ctx.handle(changePrice, (wanted) => {
      const old = price;
      price = wanted;
      return old;
    });
    await ctx.step('charge', ({ idempotencyKey }) => charge(customer, cents, idempotencyKey));
    const reason = await ctx.waitForSignal(unsubscribe, { timeout: '30 days' });
    if (reason !== null) return `${customer} has left after ${months + 1} months: ${reason}`;
    return ctx.continueAsNew({ customer, cents: price, months: months + 1 });
  });
}
