import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { durationText } from '../terminal/terminal-text.ts';
import { textColumns } from '../terminal/text-columns.ts';

/** `kiln host list`: with --json one document a host. @returns exit code */
export async function listHosts(context: CliContext, output: CommandOutput): Promise<number> {
  const { items: hosts } = await (await context.connect()).listHosts();
  if (output.json) for (const host of hosts) output.answer(host, () => []);
  else output.answer(hosts, () => table(hosts, context.now()));
  return EXIT.ok;
}

function table(hosts: readonly HostEntry[], now: number): string[] {
  return textColumns(
    ['ID', 'DRIVER', 'VCPUS FREE', 'MIB FREE', 'LOAD', 'IMAGES', 'SEEN', 'STATE'],
    hosts.map((host) => [
      host.hostId,
      host.driver,
      `${host.free.vcpus} of ${host.capacity.vcpus}`,
      `${host.free.memMib} of ${host.capacity.memMib}`,
      host.load.toFixed(2),
      String(host.images.length),
      `${durationText(now - Date.parse(host.at))} ago`,
      stateOf(host),
    ]),
  );
}

function stateOf({ draining, memory }: HostEntry): string {
  if (draining) return 'takes no new work';
  const isShort = memory !== undefined && memory.availableMib < memory.floorMib;
  return isShort ? `short of memory: ${memory.availableMib} MiB, ${memory.floorMib} must stay free` : 'open';
}
