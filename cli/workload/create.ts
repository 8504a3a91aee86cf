import { readFile } from 'node:fs/promises';
import { parseEnv } from 'node:util';
import { type CreateWorkloadBody, createWorkloadBodySchema } from '../../contracts/api/workload-request.ts';
import type { WorkloadView } from '../../contracts/api/workload-view.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { WorkloadRequest } from '../../domain/workload/workload.ts';
import { type CliContext, EXIT, UsageError } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { checkedBody, given } from '../request-body.ts';
import { servicePath } from '../service-path.ts';
import { LiveStageTable } from '../terminal/stage-table.ts';
import { mintId } from './mint-id.ts';
import { workloadTable } from './show.ts';
import { waitUntilUp } from './wait.ts';

export interface CreateOptions extends RunOptions {
  readonly service: string;
}

/** Where the code lies: on the host, or in uploaded sources. */
export type ServiceCode = Pick<WorkloadRequest, 'servicePath' | 'source'>;

/** How a service is run, wherever its code comes from. */
export interface RunOptions {
  readonly id?: string;
  readonly deployment?: string;
  readonly project?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly envFile?: string;
  readonly port?: number;
  readonly hostPort?: number;
  readonly image?: string;
  readonly priority?: number;
  readonly vcpus?: number;
  readonly memMib?: number;
  readonly diskMib?: number;
  readonly wait?: boolean;
}

/** `kiln workload create`. @returns exit code; with `wait` 0 only where it reached `running` */
export async function createWorkload(
  context: CliContext,
  output: CommandOutput,
  options: CreateOptions,
): Promise<number> {
  const path = servicePath(options.service);
  return await startWorkload(context, output, { ...options, id: options.id ?? mintId(path) }, { servicePath: path });
}

/**
 * Asks for a workload whose id is chosen already, and with `wait` shows it until it runs.
 * @returns exit code
 * @throws UsageError that names every option that is wrong
 */
export async function startWorkload(
  context: CliContext,
  output: CommandOutput,
  options: RunOptions & { readonly id: string },
  code: ServiceCode,
): Promise<number> {
  const { id } = options;
  const body = workloadBody(options, code, await environmentOf(options));
  const api = await context.connect();
  const created = await api.createWorkload({ body }).catch((error: unknown) => {
    if (isKilnError(error) && error.retryable) output.note(`It may have begun: repeat the command with --id ${id}.`);
    throw error;
  });
  if (options.wait === true) return await showUntilUp(context, output, created);
  output.answer(created, () => workloadTable(context, output, created));
  output.note(`Follow it with: kiln workload logs -f ${created.id}`);
  return EXIT.ok;
}

/** @throws UsageError that names every option that is wrong */
export function workloadBody(
  options: RunOptions,
  code: ServiceCode,
  env: Readonly<Record<string, string>>,
): CreateWorkloadBody {
  const { id, deployment, project, port, hostPort, image, priority, vcpus, memMib, diskMib } = options;
  const resources = given({ vcpus, memMib, diskMib });
  return checkedBody(
    createWorkloadBodySchema,
    {
      ...given({ id, deploymentId: deployment, projectId: project, port, hostPort, image, priority }),
      ...code,
      ...(Object.keys(env).length === 0 ? {} : { env }),
      ...(Object.keys(resources).length === 0 ? {} : { resources }),
    },
    OPTION_OF,
  );
}

const OPTION_OF: Readonly<Record<string, string>> = {
  id: '--id',
  servicePath: '--service',
  deploymentId: '--deployment',
  projectId: '--project',
  env: '--env',
  port: '--port',
  hostPort: '--host-port',
  image: '--image',
  priority: '--priority',
  'resources.vcpus': '--vcpus',
  'resources.memMib': '--mem-mib',
  'resources.diskMib': '--disk-mib',
};

async function environmentOf({ env, envFile }: RunOptions): Promise<Record<string, string>> {
  if (envFile === undefined) return { ...env };
  const text = await readFile(envFile, 'utf8').catch((error: unknown) => {
    throw new UsageError(`--env-file ${envFile} cannot be read: ${error instanceof Error ? error.message : error}`);
  });
  const read = Object.entries(parseEnv(text)).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]));
  return { ...Object.fromEntries(read), ...env };
}

async function showUntilUp(context: CliContext, output: CommandOutput, created: WorkloadView): Promise<number> {
  const table = new LiveStageTable(context.stdout, { now: context.now });
  const onView = (view: WorkloadView): void => {
    if (!output.json) table.show(view);
  };
  const interrupt = context.interruptible();
  try {
    const view = await waitUntilUp(context, created, { signal: interrupt.signal, onView });
    output.answer(view, () => []);
    return verdict(output, view);
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    output.note(`No longer waiting; the workload goes on. Stop it with: kiln workload stop ${created.id}`);
    return EXIT.interrupted;
  } finally {
    table.end();
    interrupt.release();
  }
}

/** @throws KilnError, the workload's own failure */
function verdict(output: CommandOutput, view: WorkloadView): number {
  if (view.stage === 'running' && view.leaving === undefined) return EXIT.ok;
  output.note(`Its log says more: kiln workload logs ${view.id}`);
  if (view.stage === 'failed')
    throw new KilnError(view.code ?? 'INTERNAL', view.error ?? 'It failed without a message.');
  throw new KilnError('CONFLICT', `${view.id} was stopped before it came to run.`);
}
