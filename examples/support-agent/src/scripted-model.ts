import type { Decision, Message, Model } from './model.js';
import type { Shop } from './shop.js';

/** Stands for a model: finds the order, asks a person before it refunds, and answers. Each request is noted, because a real one costs money. */
export class ScriptedModel implements Model {
  readonly #shop: Shop;
  readonly #silentAt: number;

  /** @param silentAt how many messages the conversation has for which no answer ever comes; 0: answers always */
  constructor(shop: Shop, silentAt = 0) {
    this.#shop = shop;
    this.#silentAt = silentAt;
  }

  async decide(conversation: readonly Message[]): Promise<Decision> {
    this.#shop.record({ what: 'model asked', key: `${textOf(conversation)}, ${conversation.length}` });
    if (conversation.length === this.#silentAt) await new Promise(() => undefined);
    return decisionOn(conversation);
  }
}

const textOf = (conversation: readonly Message[]): string =>
  conversation[0]?.role === 'customer' ? conversation[0].text : '';

function decisionOn(conversation: readonly Message[]): Decision {
  const orderId = /order (\d+)/.exec(textOf(conversation))?.[1];
  const call = (id: string, tool: string, input: unknown) => ({ id, tool, input });
  const last = conversation.at(-1);
  switch (last?.role) {
    case 'customer':
      // Two calls at once, and one that cannot work, as models make them.
      return {
        kind: 'call',
        calls: [call('a', 'find-order', { orderId }), call('b', 'find-order', { order: orderId })],
      };
    case 'tool': {
      if (last.callId === 'c') return { kind: 'answer', text: `Order ${orderId} is refunded.` };
      const found = conversation.find((message) => message.role === 'tool' && message.ok);
      const item = found?.role === 'tool' ? (found.content as { readonly item: string }).item : 'something';
      return { kind: 'ask', question: `May I refund the ${item} of order ${orderId}?` };
    }
    case 'person':
      if (last.text === null)
        return { kind: 'answer', text: `Nobody is there now; we will write to you about order ${orderId}.` };
      if (/\bno\b/i.test(last.text)) return { kind: 'answer', text: `Order ${orderId} cannot be refunded.` };
      return { kind: 'call', calls: [call('c', 'refund', { orderId })] };
    default:
      throw new RangeError('It is not the turn of the model.');
  }
}
