export type Booking = 'flight' | 'hotel' | 'car';

/** What goes wrong, for the demonstration. */
export interface Failures {
  /** This booking is refused for good. */
  readonly booking?: Booking;
  /** Cancelling this booking fails this many times before it succeeds. */
  readonly cancelling?: { readonly booking: Booking; readonly times: number };
}

/** The services that a trip is booked with. Like real ones, they do a request with the same idempotency key once. */
export class Agency {
  readonly #done = new Map<string, string>();
  readonly #failures = new Map<string, number>();
  readonly #say: (text: string) => void;

  /** @param say receives a line for each thing that happens */
  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  /** Bookings that were not cancelled, by trip. */
  booked(tripId: string): string[] {
    const done = [...this.#done.values()];
    return done
      .filter((what) => what.startsWith(`book ${tripId} `) && !done.includes(what.replace('book', 'cancel')))
      .map((what) => what.split(' ')[2] as string);
  }

  /** How many bookings and cancels there were. */
  get count(): number {
    return this.#done.size;
  }

  book(tripId: string, booking: Booking, idempotencyKey: string): void {
    this.#once(idempotencyKey, `book ${tripId} ${booking}`);
  }

  /** @throws {Error} as often as `failures` says */
  cancel(tripId: string, booking: Booking, idempotencyKey: string, { cancelling }: Failures): void {
    if (cancelling?.booking === booking) {
      const failed = this.#failures.get(idempotencyKey) ?? 0;
      this.#failures.set(idempotencyKey, failed + 1);
      if (failed < cancelling.times) throw new Error(`the ${booking} desk does not answer`);
    }
    this.#once(idempotencyKey, `cancel ${tripId} ${booking}`);
  }

  #once(idempotencyKey: string, what: string): void {
    if (this.#done.has(idempotencyKey)) return;
    this.#done.set(idempotencyKey, what);
    this.#say(what);
  }
}
