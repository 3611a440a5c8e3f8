import { TerminalError, type Workflow, workflow } from 'perdure';
import { z } from 'zod';
import type { PaymentGateway } from './payment-gateway.js';

export const Order = z.object({
  orderId: z.string().min(1),
  card: z.string(),
  items: z.array(z.object({ sku: z.string(), quantity: z.int().positive(), cents: z.int().positive() })).min(1),
});
export type Order = z.infer<typeof Order>;

export interface Fulfilment {
  readonly orderId: string;
  readonly paymentId: string;
  readonly cents: number;
  readonly tracking: string;
  readonly invoice: string;
}

export const TASK_QUEUE = 'orders';

/** The order workflow over a gateway: reserve, charge, let it cool off, label and invoice side by side, ship. */
export function orderWorkflow(gateway: PaymentGateway): Workflow<z.input<typeof Order>, Fulfilment> {
  return workflow('fulfil-order', { input: Order }, async (ctx, order): Promise<Fulfilment> => {
    const cents = order.items.reduce((sum, item) => sum + item.cents * item.quantity, 0);

    await ctx.step(
      'reserve stock',
      ({ countedAttempt }) => {
        if (order.items.some(({ sku }) => sku === 'discontinued'))
          throw new TerminalError('An item is no longer made.');
        // The warehouse is slow to wake up.
        if (countedAttempt < 3) throw new Error('The warehouse does not answer.');
      },
      { retry: { maxAttempts: 5, initial: '300ms', backoff: 'linear' } },
    );

    const { paymentId } = await ctx.step(
      'charge card',
      ({ idempotencyKey }) => gateway.charge({ idempotencyKey, card: order.card, cents }),
      { timeout: '30s', retry: { stopOn: ['CardDeclined'] } },
    );

    await ctx.sleep('cooling-off', '2s');

    const [tracking, invoice] = await Promise.all([
      ctx.step('print label', () => `TRK-${ctx.idempotencyKey.slice(0, 8)}`),
      ctx.step('write invoice', () => `INV-${order.orderId}: ${(cents / 100).toFixed(2)} EUR`),
    ]);

    await ctx.step('hand to carrier', () => undefined);
    return { orderId: order.orderId, paymentId, cents, tracking, invoice };
  });
}
