/**
 * Starts Perdure with an embedded PostgreSQL and three approvals: one that is decided at once, one that only the director decides after
 * a reminder and an escalation, and one that nobody decides. Decisions come as HTTP requests, as the buttons of a mail would send them.
 */
import { Client, Worker } from 'perdure';
import { startDev } from 'perdure/dev';
import { expenseWorkflow, TASK_QUEUE } from './expense-workflow.js';
import { type Mail, Outbox } from './outbox.js';
import { payoutWorkflow } from './payout-workflow.js';

const say = (text: string) => process.stdout.write(`${text}\n`);

/** Who decides what, and at which mail. */
const DECISIONS: Readonly<Record<string, object>> = {
  'please decide: train ticket': { approved: true, by: 'manager' },
  'escalated to you: new chairs': { approved: true, by: 'director' },
};

async function main(): Promise<void> {
  const dev = await startDev({ ephemeral: true, onProgress: (what) => say(`  ${what} …`) });
  const client = new Client({ address: dev.grpcAddress });
  const answers: Promise<void>[] = [];

  const decide = async ({ promiseId, subject }: Mail, decision: object): Promise<void> => {
    const url = `http://${dev.httpAddress}/promises/${promiseId}/resolve`;
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(decision),
    });
    say(`  → POST /promises/${promiseId.slice(0, 8)}…/resolve for '${subject}': ${(await response.text()).trim()}`);
  };
  const outbox = new Outbox((mail) => {
    say(`  ✉ to ${mail.to}: ${mail.subject}`);
    const decision = DECISIONS[mail.subject];
    if (decision !== undefined) answers.push(decide(mail, decision));
  });
  const expenses = expenseWorkflow(outbox);
  const worker = new Worker({
    address: dev.grpcAddress,
    taskQueue: TASK_QUEUE,
    workflows: [expenses, payoutWorkflow],
    handleSignals: false,
  });

  try {
    await worker.start();
    say('\nThree expenses are to be approved.\n');
    const names = ['train ticket', 'new chairs', 'a yacht'];
    const runs = await Promise.all(
      names.map((expenseId) =>
        client.start(
          expenses,
          {
            expenseId,
            cents: 12_000,
            manager: 'manager',
            director: 'director',
            remindAfter: 1_000,
            escalateAfter: 1_000,
            giveUpAfter: 5_000,
          },
          { taskQueue: TASK_QUEUE, workflowId: `expense ${expenseId}` },
        ),
      ),
    );
    const payouts = await Promise.all(
      names.map((name) => client.start(payoutWorkflow, name, { taskQueue: TASK_QUEUE })),
    );
    const outcomes = await Promise.all(runs.map((run) => run.result({ timeout: '60s' })));
    const paid = await Promise.all(payouts.map((run) => run.result({ timeout: '60s' })));
    await Promise.all(answers);

    say(`\n${paid.join('\n')}\n`);
    const mails = names.map((name) => outbox.sent.filter(({ subject }) => subject.endsWith(`: ${name}`)).length);
    say(`Mails for each: ${mails.join(', ')}.`);
    const kinds = outcomes.map(({ kind }) => kind).join(', ');
    if (kinds !== 'approved, approved, expired' || mails.join() !== '1,3,3') {
      throw new Error(`The demo did not end as it must: ${kinds}; mails ${mails.join()}.`);
    }
    say('One was approved at once, one after a reminder and an escalation, one has expired.');
  } finally {
    client.close();
    await worker.shutdown();
    await dev.stop();
  }
}

await main();
