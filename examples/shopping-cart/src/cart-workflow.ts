import { signal, update, type WorkflowContext, workflow } from 'perdure';
import { z } from 'zod';

export const TASK_QUEUE = 'carts';

const Item = z.object({ sku: z.string().min(1), quantity: z.number().int().min(1).max(99) });
type Item = z.infer<typeof Item>;

export interface Cart {
  readonly status: 'open' | 'paid' | 'abandoned';
  readonly items: readonly Item[];
  readonly cents: number;
}

/** Cents for one of each; what is not listed cannot be bought. */
const PRICES: Readonly<Record<string, number>> = { teapot: 3_900, cup: 850, spoon: 420 };

export const addItem = update<typeof Item, Cart>('add item', {
  input: Item,
  // Refused before anything is carried out; the sender of the update gets the message.
  validate: ({ sku }) => {
    if (PRICES[sku] === undefined) throw new Error(`There is no '${sku}'.`);
  },
});
export const removeItem = update<string, Cart>('remove item');
export const checkout = update<{ readonly card: string }, { readonly paymentId: string }>('check out');
/** Nobody waits for an answer to it, so it is a signal. */
export const viewed = signal('viewed');

/** A cart is a run: it lives for as long as somebody uses it, and ends with the payment, or when nobody has looked at it for a week. */
export const cartWorkflow = workflow('cart', async (ctx): Promise<Cart> => {
  let cart: Cart = { status: 'open', items: [], cents: 0 };
  const change = (more: Partial<Cart>): Cart => {
    const items = more.items ?? cart.items;
    const cents = items.reduce((sum, { sku, quantity }) => sum + (PRICES[sku] ?? 0) * quantity, 0);
    cart = { ...cart, ...more, cents };
    // The shop's pages read it, whether or not a worker is there.
    ctx.setState(cart);
    return cart;
  };
  change({});

  ctx.handle(addItem, (item) => {
    const others = cart.items.filter(({ sku }) => sku !== item.sku);
    const before = cart.items.find(({ sku }) => sku === item.sku)?.quantity ?? 0;
    return change({ items: [...others, { ...item, quantity: before + item.quantity }] });
  });
  ctx.handle(removeItem, (removed) => change({ items: cart.items.filter(({ sku }) => sku !== removed) }));

  const paid = new Promise<void>((resolve) => {
    ctx.handle(
      checkout,
      async ({ card }) => {
        const { cents } = cart;
        const paymentId = await ctx.step('charge', ({ idempotencyKey }) => charge(card, cents, idempotencyKey));
        change({ status: 'paid' });
        resolve();
        return { paymentId };
      },
      {
        // Looks at what the code has in memory.
        validate: () => {
          if (cart.items.length === 0) throw new Error('The cart is empty.');
        },
      },
    );
  });

  await Promise.race([paid, abandoned(ctx)]);
  if (cart.status === 'open') change({ status: 'abandoned' });
  return cart;
});

/** Resolves when nobody has looked at the cart for a week. */
async function abandoned(ctx: WorkflowContext): Promise<void> {
  while ((await ctx.waitForSignal(viewed, { timeout: '7 days' })) !== null);
}

/** Stands for a payment provider, which charges once per idempotency key. */
function charge(card: string, cents: number, idempotencyKey: string): string {
  if (!/^\d{4}( \d{4}){3}$/.test(card)) throw new TypeError('The card number is not complete.');
  return `pay-${cents}-${idempotencyKey.slice(-6)}`;
}
