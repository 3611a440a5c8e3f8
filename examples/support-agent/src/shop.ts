import { appendFileSync, existsSync, readFileSync } from 'node:fs';

export interface Order {
  readonly orderId: string;
  readonly item: string;
  readonly cents: number;
  readonly status: 'delivered' | 'lost';
}

const ORDERS: readonly Order[] = [
  { orderId: '17', item: 'teapot', cents: 3_900, status: 'delivered' },
  { orderId: '18', item: 'cup', cents: 850, status: 'lost' },
];

/** What happened outside of Perdure; one line each. */
export interface Entry {
  readonly what: 'model asked' | 'refunded';
  readonly key: string;
}

/** Stands for the systems of a shop. Its journal is a file, so that it outlives any process. */
export class Shop {
  readonly #journal: string;

  constructor(journal: string) {
    this.#journal = journal;
  }

  order(orderId: string): Order {
    const order = ORDERS.find((one) => one.orderId === orderId);
    if (order === undefined) throw new RangeError(`There is no order ${orderId}.`);
    return order;
  }

  /** Refunds once for each idempotency key. */
  refund(orderId: string, idempotencyKey: string): { readonly cents: number } {
    const { cents } = this.order(orderId);
    const isDone = this.entries().some(({ what, key }) => what === 'refunded' && key === idempotencyKey);
    if (!isDone) this.record({ what: 'refunded', key: idempotencyKey });
    return { cents };
  }

  record(entry: Entry): void {
    appendFileSync(this.#journal, `${JSON.stringify(entry)}\n`);
  }

  entries(): readonly Entry[] {
    if (!existsSync(this.#journal)) return [];
    const lines = readFileSync(this.#journal, 'utf8').split('\n');
    return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Entry);
  }
}
