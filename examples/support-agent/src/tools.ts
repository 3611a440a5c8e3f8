import { type Activity, activity, TerminalError } from 'perdure';
import { z } from 'zod';
import type { ToolDescription } from './model.js';
import type { Shop } from './shop.js';

/** Served by workers of their own: they reach the systems of the shop, the agent does not. */
export const TOOL_QUEUE = 'support-tools';

const OrderId = z.object({ orderId: z.string().min(1).describe('the number of the order') });

/** What the model is told; the names are those of the activities. */
export const TOOLS: readonly ToolDescription[] = [
  { name: 'find-order', description: 'Item, price and status of an order.', input: z.toJSONSchema(OrderId) },
  { name: 'refund', description: 'Pays the whole order back.', input: z.toJSONSchema(OrderId) },
];

export function toolActivities(shop: Shop): readonly Activity<unknown, unknown>[] {
  return [
    activity('find-order', (input: unknown) => shop.order(orderIdOf(input)), { timeout: '10s' }),
    // Its worker may die between the payment and the record: the shop knows the key, and pays once.
    activity('refund', (input: unknown, { idempotencyKey }) => shop.refund(orderIdOf(input), idempotencyKey), {
      timeout: '10s',
    }),
  ];
}

/** The model wrote the input. A repeat would not mend it, and the message tells the model what to do better. */
function orderIdOf(input: unknown): string {
  const checked = OrderId.safeParse(input);
  if (!checked.success) throw new TerminalError(`The input does not fit: ${z.prettifyError(checked.error)}`);
  return checked.data.orderId;
}
