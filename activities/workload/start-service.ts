import { AbandonableTurns } from '../../concurrency/abandonable-turns.ts';
import { defined } from '../../domain/defined.ts';
import { SERVICE_EXEC_ID } from '../../domain/names.ts';
import { workloadRef } from '../../domain/owner.ts';
import type { Language } from '../../domain/workload/workload.ts';
import type { BuildStore } from '../../ports/builds.ts';
import type { WorkloadDocuments } from '../../ports/documents.ts';
import type { AgentChannel, ExecRequest } from '../../ports/guest-agent.ts';
import type { VmHost } from '../../ports/host.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import type { GuestServices } from '../../ports/services.ts';
import { framed } from '../activity-frame.ts';
import type { HostActivities } from '../activity-types.ts';
import { guestEnvironment, SERVICE_FOLDER } from './guest-environment.ts';

type StartInput = Parameters<HostActivities['startService']>[0];

interface Ports {
  readonly vms: Pick<VmHost, 'openPort' | 'setEgress'> & {
    agent(vmId: string): Promise<Pick<AgentChannel, 'listExecs' | 'putTar'>>;
  };
  readonly services: Pick<GuestServices, 'start'>;
  readonly builds: Pick<BuildStore, 'open'>;
  readonly documents: Pick<WorkloadDocuments, 'readSpec'>;
  readonly logs: Pick<OwnerLogs, 'open'>;
}

/** Opens the service's egress, copies the build output into the guest, opens the port, starts it; each only once. */
export function createStartService(ports: Ports): HostActivities['startService'] {
  // A call that seems lost may still write files after the next call has started the service.
  const turns = new AbandonableTurns();
  return (input) =>
    framed((signal) => turns.run(input.vmId, () => startService(ports, input), signal), { isMadeAgain: true });
}

async function startService(ports: Ports, input: StartInput): ReturnType<HostActivities['startService']> {
  const { workloadId, epoch, vmId, port, hostPort } = input;
  const log = await ports.logs.open(workloadRef(workloadId, epoch));
  const request = await ports.documents.readSpec(workloadId, input.specHash);
  const agent = await ports.vms.agent(vmId);
  const opened = await ports.vms.openPort({
    vmId,
    guestPort: port,
    ...defined({ hostPort }),
  });
  const { language, hooks, egress } = input.manifest;
  await ports.vms.setEgress(vmId, { allow: egress, privateAllowed: [] });
  if (!(await isStarted(agent))) {
    const { bytes } = await agent.putTar(SERVICE_FOLDER, await ports.builds.open(input.build));
    log.write('deploy', 'info', `${bytes} bytes of build output in the guest; starting: ${hooks.start}`);
  }
  const exec = serviceExec(language, hooks.start, { ...request.env, PORT: String(port) });
  const { pid } = await ports.services.start({ vmId, workloadId, epoch, exec });
  await log.flush();
  return { ...opened, servicePid: pid };
}

async function isStarted(agent: Pick<AgentChannel, 'listExecs'>): Promise<boolean> {
  return (await agent.listExecs()).some((exec) => exec.execId === SERVICE_EXEC_ID);
}

/** A command without any shell syntax, not beginning with an assignment. */
const PLAIN_COMMAND = /^[\w./@-]+(?: +[\w./@:=+,-]+)*$/;

/** A plain command replaces the shell, so that its death by a signal is not reported as the shell's exit code. */
function shellLine(start: string): string {
  return PLAIN_COMMAND.test(start) ? `exec ${start}` : start;
}

function serviceExec(language: Language, start: string, env: Readonly<Record<string, string>>): ExecRequest {
  return {
    execId: SERVICE_EXEC_ID,
    argv: ['/bin/sh', '-c', shellLine(start)],
    cwd: SERVICE_FOLDER,
    env: {
      NODE_ENV: 'production',
      ...guestEnvironment(language),
      ...env,
    },
    // A log that nobody reads must never block the service.
    output: 'ring',
  };
}
