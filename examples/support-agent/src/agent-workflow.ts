import { ChildCancelledError, ChildFailedError, signal, type Workflow, type WorkflowContext, workflow } from 'perdure';
import { z } from 'zod';
import type { Message, Model, ToolCall } from './model.js';
import { TOOL_QUEUE, TOOLS } from './tools.js';

export const AGENT_QUEUE = 'support';
/** A model that finds no end is stopped. */
const MAX_DECISIONS = 20;

const Request = z.object({ text: z.string().min(1), replyWithinMs: z.int().positive() });

/** The reply of a person to the question in the state. */
export const reply = signal('reply', z.object({ text: z.string(), by: z.string() }));

/** What pages show; read with `handle.state()`. */
export type AgentState =
  | { readonly status: 'thinks' | 'uses tools' | 'has answered' }
  | { readonly status: 'asks'; readonly question: string };

/**
 * The loop of an agent: the model decides, tools are called, people are asked, until the model answers. Each decision, result and reply is
 * recorded, so another worker continues where this one died: nothing that is recorded is asked, called or paid for again.
 */
export function agentWorkflow(model: Model): Workflow<z.input<typeof Request>, string> {
  return workflow('support-agent', { input: Request }, async (ctx, { text, replyWithinMs }) => {
    const conversation: Message[] = [{ role: 'customer', text }];
    const show = (state: AgentState) => ctx.setState(state);

    for (let count = 0; count < MAX_DECISIONS; count++) {
      show({ status: 'thinks' });
      const decision = await ctx.step('decide', (step) => model.decide(conversation, TOOLS, step.signal), {
        timeout: '5 minutes',
        retry: { maxAttempts: 10, max: '1 minute' },
      });
      conversation.push({ role: 'model', decision });
      switch (decision.kind) {
        case 'answer':
          show({ status: 'has answered' });
          return decision.text;
        case 'call':
          show({ status: 'uses tools' });
          conversation.push(...(await ctx.map(decision.calls, (call) => callTool(ctx, call))));
          break;
        case 'ask': {
          show({ status: 'asks', question: decision.question });
          const answer = await ctx.waitForSignal(reply, { timeout: replyWithinMs });
          conversation.push({ role: 'person', text: answer === null ? null : `${answer.by}: ${answer.text}` });
        }
      }
    }
    throw new Error(`The model has not answered after ${MAX_DECISIONS} decisions.`);
  });
}

/** The model learns of failures too, and may try something else. */
async function callTool(ctx: WorkflowContext, { id, tool, input }: ToolCall): Promise<Message> {
  const result = (ok: boolean, content: unknown): Message => ({ role: 'tool', callId: id, ok, content });
  if (!TOOLS.some(({ name }) => name === tool)) return result(false, `There is no tool '${tool}'.`);
  try {
    return result(true, await ctx.call(tool, input, { taskQueue: TOOL_QUEUE }));
  } catch (error) {
    if (!(error instanceof ChildFailedError) || error instanceof ChildCancelledError) throw error;
    return result(false, error.cause instanceof Error ? error.cause.message : error.message);
  }
}
