export interface Mail {
  readonly to: string;
  readonly subject: string;
  /** What the buttons of the mail send their decision to. */
  readonly promiseId: string;
}

/** Stands for a mail service. */
export class Outbox {
  readonly sent: Mail[] = [];
  readonly #onMail: (mail: Mail) => void;

  constructor(onMail: (mail: Mail) => void) {
    this.#onMail = onMail;
  }

  send(mail: Mail): void {
    this.sent.push(mail);
    this.#onMail(mail);
  }
}
