import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface Payment {
  readonly idempotencyKey: string;
  readonly card: string;
  readonly cents: number;
}

/**
 * Stands for a payment provider: money moves when the call arrives, the answer takes a while, and a second call with the
 * same idempotency key moves nothing. What it booked lies in a file, so that it outlives any process.
 */
export class PaymentGateway {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  async charge(payment: Payment): Promise<{ readonly paymentId: string }> {
    if (!this.bookings().some(({ idempotencyKey }) => idempotencyKey === payment.idempotencyKey)) {
      appendFileSync(this.#file, `${JSON.stringify(payment)}\n`);
    }
    await delay(1_500);
    return { paymentId: `pay_${payment.idempotencyKey.slice(0, 8)}` };
  }

  bookings(): readonly Payment[] {
    if (!existsSync(this.#file)) return [];
    const lines = readFileSync(this.#file, 'utf8')
      .split('\n')
      .filter((line) => line !== '');
    return lines.map((line) => JSON.parse(line) as Payment);
  }
}
