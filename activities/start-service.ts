import { SERVICE_EXEC_ID } from '../domain/names.ts';
import { framed } from './activity-frame.ts';
import type { HostActivities } from './activity-types.ts';
import type {
  AgentChannel,
  BuildStore,
  ExecRequest,
  GuestServices,
  VmHost,
  WorkloadDocuments,
  WorkloadLogs,
} from './ports.ts';

/** Folder of the service in its guest. */
export const SERVICE_FOLDER = '/workspace/app';

interface Ports {
  readonly vms: VmHost;
  readonly services: GuestServices;
  readonly builds: BuildStore;
  readonly documents: WorkloadDocuments;
  readonly logs: WorkloadLogs;
}

/** Puts the build output into the guest, opens the port and starts the service; each of them only once. */
export function createStartService(ports: Ports): HostActivities['startService'] {
  return (input) =>
    framed(async () => {
      const { workloadId, epoch, vmId, port, hostPort } = input;
      const log = await ports.logs.open(workloadId, epoch);
      const request = await ports.documents.readSpec(workloadId, input.specHash);
      const agent = await ports.vms.agent(vmId);
      const opened = await ports.vms.openIngress({
        vmId,
        guestPort: port,
        ...(hostPort === undefined ? {} : { hostPort }),
      });
      if (!(await isStarted(agent))) {
        const { bytes } = await agent.putTar(SERVICE_FOLDER, await ports.builds.open(input.build));
        log.write(
          'deploy',
          'info',
          `${bytes} bytes of build output in the guest; starting: ${input.manifest.hooks.start}`,
        );
      }
      const exec = serviceExec(input.manifest.hooks.start, { ...request.env, PORT: String(port) });
      const { pid } = await ports.services.start({ vmId, workloadId, epoch, exec });
      await log.flush();
      return { ...opened, servicePid: pid };
    });
}

async function isStarted(agent: AgentChannel): Promise<boolean> {
  return (await agent.listExecs()).some((exec) => exec.execId === SERVICE_EXEC_ID);
}

/** A command without any shell syntax, not beginning with an assignment. */
const PLAIN_COMMAND = /^[\w./@-]+(?: +[\w./@:=+,-]+)*$/;

/** A plain command takes the shell's place, so that its own death by a signal is not told as the shell's exit code. */
function shellLine(start: string): string {
  return PLAIN_COMMAND.test(start) ? `exec ${start}` : start;
}

function serviceExec(start: string, env: Readonly<Record<string, string>>): ExecRequest {
  return {
    execId: SERVICE_EXEC_ID,
    argv: ['/bin/sh', '-c', shellLine(start)],
    cwd: SERVICE_FOLDER,
    env: {
      NODE_ENV: 'production',
      PATH: `${SERVICE_FOLDER}/node_modules/.bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
      ...env,
    },
    // A log that nobody reads must never block the service.
    output: 'ring',
  };
}
