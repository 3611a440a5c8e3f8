import { AdminService, WorkerService, type WorkflowRun, WorkflowService } from '@perdure/proto';
import { Connection, RpcError, type ServiceClient } from '@perdure/worker-sdk';
import type { Command } from 'commander';
import { validate as isUuid } from 'uuid';
import { CliError, EXIT } from './exit-codes.js';
import type { OutputFormat } from './output/print.js';

/** What every command that calls a server receives. */
export interface Session {
  readonly namespace: string;
  readonly address: string;
  readonly output: OutputFormat;
  readonly workflows: ServiceClient<typeof WorkflowService>;
  readonly workers: ServiceClient<typeof WorkerService>;
  readonly admin: ServiceClient<typeof AdminService>;
}

/** Opens a connection for one command and closes it afterwards. */
export async function withSession<T>(command: Command, work: (session: Session) => Promise<T>): Promise<T> {
  const { address, namespace, output } = command.optsWithGlobals<{
    address?: string;
    namespace?: string;
    output: OutputFormat;
  }>();
  const connection = connect(address);
  try {
    return await work({
      namespace: namespace ?? (process.env.PERDURE_NAMESPACE || 'default'),
      address: connection.address,
      output,
      workflows: connection.service(WorkflowService),
      workers: connection.service(WorkerService),
      admin: connection.service(AdminService),
    });
  } finally {
    connection.close();
  }
}

function connect(address: string | undefined): Connection {
  try {
    return new Connection(address === undefined ? {} : { address });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new CliError(error.message, EXIT.usage);
  }
}

export interface RunRef {
  readonly namespace: string;
  readonly runId: string;
  readonly workflowId: string;
}

/** Users give run ids or workflow ids. A UUID is tried as a run id first. */
export async function withRun<T>(session: Session, id: string, call: (ref: RunRef) => Promise<T>): Promise<T> {
  const { namespace } = session;
  if (!isUuid(id)) return call({ namespace, runId: '', workflowId: id });
  try {
    return await call({ namespace, runId: id, workflowId: '' });
  } catch (error) {
    if (!(error instanceof RpcError) || error.reason !== 'RUN_NOT_FOUND') throw error;
    return call({ namespace, runId: '', workflowId: id });
  }
}

/** The run of a run id or workflow id. */
export async function findRun(session: Session, id: string): Promise<WorkflowRun> {
  return withRun(session, id, async (ref) => (await session.workflows.getRun(ref)).run as WorkflowRun);
}

/** The run id of a run id or workflow id. */
export async function runIdOf(session: Session, id: string): Promise<string> {
  return (await findRun(session, id)).runId;
}
