/** A tool that the model wants to be called. */
export interface ToolCall {
  /** Distinguishes the calls of one decision; chosen by the model. */
  readonly id: string;
  readonly tool: string;
  /** Written by the model, so it may be anything; the tool checks it. */
  readonly input: unknown;
}

/** What a model decides when it has read the conversation. */
export type Decision =
  | { readonly kind: 'call'; readonly calls: readonly ToolCall[] }
  /** Only a person knows. */
  | { readonly kind: 'ask'; readonly question: string }
  | { readonly kind: 'answer'; readonly text: string };

/** The conversation so far. */
export type Message =
  | { readonly role: 'customer'; readonly text: string }
  | { readonly role: 'model'; readonly decision: Decision }
  | { readonly role: 'tool'; readonly callId: string; readonly ok: boolean; readonly content: unknown }
  /** Null: nobody has replied in time. */
  | { readonly role: 'person'; readonly text: string | null };

/** What the model may call. */
export interface ToolDescription {
  readonly name: string;
  readonly description: string;
  /** JSON Schema. */
  readonly input: unknown;
}

/** Put the client of your provider behind this. */
export interface Model {
  /** @param signal aborted when the answer is no longer wanted */
  decide(conversation: readonly Message[], tools: readonly ToolDescription[], signal: AbortSignal): Promise<Decision>;
}
