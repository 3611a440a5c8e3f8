/**
 * Starts Perdure with an embedded PostgreSQL, and two runs of the agent. The worker is killed while the model decides, and another one
 * continues. A person replies to one run, nobody to the other.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Client, type RunHandle } from 'perdure';
import { devText, startDev } from 'perdure/dev';
import { AGENT_QUEUE, type AgentState, agentWorkflow, reply } from './agent-workflow.js';
import { ScriptedModel } from './scripted-model.js';
import { Shop } from './shop.js';

/** How long a conversation is when the results of the first tools have come: the model is asked for the second time. */
const SILENT_AT = 4;

const say = (text: string) => process.stdout.write(`${text}\n`);

async function main(): Promise<void> {
  const dev = await startDev({ ephemeral: true, onProgress: (what) => say(`  ${what} …`) });
  say(devText(dev));
  const journal = join(dev.dataFolder, 'support.jsonl');
  const shop = new Shop(journal);
  const client = new Client({ address: dev.grpcAddress });
  const workers: ChildProcess[] = [];
  const startWorker = (program: string, env: Readonly<Record<string, string>> = {}): ChildProcess => {
    const child = spawn(process.execPath, [fileURLToPath(new URL(program, import.meta.url))], {
      env: {
        ...process.env,
        PERDURE_ADDRESS: dev.grpcAddress,
        PERDURE_LOG_LEVEL: 'error',
        JOURNAL: journal,
        ...env,
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    workers.push(child);
    return child;
  };
  const agent = agentWorkflow(new ScriptedModel(shop));
  const ask = (text: string, replyWithinMs: number) =>
    client.start(agent, { text, replyWithinMs }, { taskQueue: AGENT_QUEUE });
  const requests = () => shop.entries().filter(({ what }) => what === 'model asked');

  try {
    startWorker('tool-worker.js');
    const first = startWorker('agent-worker.js', { SILENT_AT: String(SILENT_AT), LEASE: '2000' });
    const lid = await ask('The lid of order 17 is broken.', 600_000);
    say('\n  Customer: The lid of order 17 is broken.');
    while (!requests().some(({ key }) => key.endsWith(`, ${SILENT_AT}`))) await delay(20);
    first.kill('SIGKILL');
    await once(first, 'exit');
    say('  The worker of the agent was killed while the model was asked for the second time; another one continues.');
    startWorker('agent-worker.js');

    const question = await questionOf(lid);
    say(`  Agent asks a person: ${question}`);
    await lid.signal(reply, { text: 'yes, gladly', by: 'Ada' });
    say('  Ada replies: yes, gladly');
    const answer = await lid.result({ timeout: '60s' });
    say(`  Agent: ${answer}`);

    const lost = await ask('Where is order 18?', 1_000);
    say('\n  Customer: Where is order 18?');
    say(`  Agent, when nobody replied: ${await lost.result({ timeout: '60s' })}`);

    const asked = requests().filter(({ key }) => key.includes('order 17')).length;
    const refunds = shop.entries().filter(({ what }) => what === 'refunded').length;
    say(`\nThe model was asked ${asked} times for 4 decisions: only the one that the kill cut short was repeated.`);
    say(`Refunds: ${refunds}.`);
    if (answer !== 'Order 17 is refunded.' || asked !== 5 || refunds !== 1) {
      throw new Error('The demo did not end as it must.');
    }
  } finally {
    client.close();
    for (const worker of workers) worker.kill('SIGTERM');
    await Promise.all(
      workers
        .filter((worker) => worker.exitCode === null && worker.signalCode === null)
        .map((worker) => once(worker, 'exit')),
    );
    await dev.stop();
  }
}

/** Reads the state, as a page that people look at would. */
async function questionOf(run: RunHandle<string>): Promise<string> {
  for (;;) {
    const state = await run.state<AgentState>();
    if (state?.status === 'asks') return state.question;
    await delay(50);
  }
}

await main();
