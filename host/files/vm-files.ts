/** Files in the workspaces of this host's session VMs, through the channels that their agents have anyway. */
import { randomBytes } from 'node:crypto';
import { posix } from 'node:path';
import type { Readable } from 'node:stream';
import { abortable, onAbort } from '../../concurrency/deadline.ts';
import { KilnError } from '../../domain/failures.ts';
import {
  isNoRegularFile,
  MAX_LISTED,
  MAX_WORKSPACE_PATH,
  workspacePathProblem,
} from '../../domain/session/workspace-path.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import type { VmHost } from '../../ports/host.ts';
import type { FileListing, FileLook, OwnedVm, SessionFiles, WrittenFile } from '../../ports/session-files.ts';
import { parseListing, parseLook } from './guest-answers.ts';
import { inGuest } from './guest-command.ts';
import { DISCARD, INSTALL, LIST, LOOK, REMOVE } from './guest-scripts.ts';
import { fileOf, tarOf } from './one-file-tar.ts';

const WORKSPACE = '/workspace';
const MAX_LOOK_BYTES = 8 * MAX_WORKSPACE_PATH;
/** About 300 bytes an entry, most of them its name. */
const MAX_LIST_BYTES = 4 * 1024 * 1024;

export interface VmFiles extends SessionFiles {
  /** Ends what goes on in a VM that was paused: its guest does not answer any more. */
  interrupt(vmId: string): void;
}

export function createVmFiles(vms: Pick<VmHost, 'agent' | 'assertOwner' | 'status'>): VmFiles {
  const uses = new VmUses(vms);
  return {
    look: (vm, path) => uses.run(vm, async (agent) => shown(await look(agent, path))),
    read: (vm, path) => read(uses, vm, path),
    write: (vm, path, file) => uses.run(vm, (agent, signal) => write(agent, path, file, signal)),
    remove: (vm, path) =>
      uses.run(vm, async (agent) => {
        await inGuest(agent, REMOVE, [...placeOf(path)], 0);
      }),
    list: (vm, dir) => uses.run(vm, (agent) => list(agent, dir)),
    interrupt: (vmId) => uses.interrupt(vmId),
  };
}

/** What goes on in VMs now, so that a pause can end it. */
class VmUses {
  private readonly vms: Pick<VmHost, 'agent' | 'assertOwner' | 'status'>;
  private readonly open = new Map<string, Set<AbortController>>();

  constructor(vms: Pick<VmHost, 'agent' | 'assertOwner' | 'status'>) {
    this.vms = vms;
  }

  async run<T>(vm: OwnedVm, work: (agent: AgentChannel, signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal, end } = this.begin(vm.vmId);
    try {
      const agent = await this.agentOf(vm, signal);
      return await abortable(work(agent, signal), signal);
    } finally {
      end();
    }
  }

  /** The pause that comes after this, but before the status is read, is seen by the status. */
  begin(vmId: string): { readonly signal: AbortSignal; readonly end: () => void } {
    const own = new AbortController();
    const all = this.open.get(vmId) ?? new Set();
    this.open.set(vmId, all.add(own));
    const end = () => {
      all.delete(own);
      if (all.size === 0 && this.open.get(vmId) === all) this.open.delete(vmId);
    };
    return { signal: own.signal, end };
  }

  async agentOf({ vmId, ...owner }: OwnedVm, signal: AbortSignal): Promise<AgentChannel> {
    await this.vms.assertOwner(vmId, owner);
    const { state } = await this.vms.status(vmId);
    if (state === 'paused') throw isPaused(vmId);
    if (state !== 'running') throw new KilnError('VMM_EXITED', `VM ${vmId} does not run on this host.`, { vmId });
    return abortable(this.vms.agent(vmId), signal);
  }

  interrupt(vmId: string): void {
    for (const use of this.open.get(vmId) ?? []) use.abort(isPaused(vmId));
  }
}

async function look(agent: AgentChannel, path: string) {
  const { output } = await inGuest(agent, LOOK, [checked(path)], MAX_LOOK_BYTES);
  return parseLook(output);
}

function shown({ kind, bytes, modifiedAt }: FileLook): FileLook {
  return { kind, bytes, modifiedAt };
}

async function read(uses: VmUses, vm: OwnedVm, path: string): Promise<FileLook & { readonly content: Readable }> {
  const { signal, end } = uses.begin(vm.vmId);
  try {
    const agent = await uses.agentOf(vm, signal);
    const found = await abortable(look(agent, path), signal);
    if (found.kind !== 'file') throw isNoRegularFile(path, found.kind);
    const tar = agent.getTar(WORKSPACE, [found.realPath]);
    const stop = onAbort(signal, () => tar.destroy(signal.reason));
    const { bytes, content } = await fileOf(tar);
    content.once('close', () => {
      stop();
      end();
    });
    return { ...shown(found), bytes, content };
  } catch (error) {
    end();
    throw error;
  }
}

async function write(
  agent: AgentChannel,
  path: string,
  file: { readonly bytes: number; readonly content: Readable },
  signal: AbortSignal,
): Promise<WrittenFile> {
  const [folder, name] = placeOf(path);
  const beside = `.kiln-put-${randomBytes(8).toString('hex')}`;
  const stop = onAbort(signal, () => file.content.destroy(signal.reason));
  try {
    await agent.putTar(WORKSPACE, tarOf(posix.join(folder, beside), file));
    const { output } = await inGuest(agent, INSTALL, [folder, beside, name], MAX_LOOK_BYTES);
    return { created: output.toString('latin1').startsWith('new') };
  } catch (error) {
    // In a guest that is paused or gone, nobody can.
    if (!signal.aborted) await inGuest(agent, DISCARD, [folder, beside], 0).catch(() => undefined);
    throw error;
  } finally {
    stop();
  }
}

async function list(agent: AgentChannel, dir: string): Promise<FileListing> {
  const { output, isCut } = await inGuest(agent, LIST, [dir === '' ? '.' : checked(dir)], MAX_LIST_BYTES);
  const entries = parseListing(output);
  return { entries: entries.slice(0, MAX_LISTED), isCut: isCut || entries.length > MAX_LISTED };
}

/** @returns the folder of a path, as seen from /workspace, and the name in it */
function placeOf(path: string): readonly [folder: string, name: string] {
  const { dir, base } = posix.parse(checked(path));
  return [dir === '' ? '.' : dir, base];
}

/** @throws SPEC_INVALID */
function checked(path: string): string {
  const problem = workspacePathProblem(path);
  if (problem === undefined) return path;
  throw new KilnError('SPEC_INVALID', `The path ${problem}.`);
}

function isPaused(vmId: string): KilnError {
  return new KilnError('CONFLICT', `VM ${vmId} is paused: hold the session while its files are used.`, { vmId });
}
