/** Hosts with workspaces in memory, around one store. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SaveMark } from '../../../domain/session/save-book.ts';
import { createSessionSaves, type HostSavesOptions } from '../../../host/saves/host-saves.ts';
import type { SessionSaves, WorkspaceOf } from '../../../ports/saves.ts';
import { silentLogger } from '../workers/silent-logger.ts';
import { createFakeWorkspaces, type FakeWorkspaces } from './fake-workspaces.ts';

export const SESSION = { project: 'default', thread: 'thread-1', incarnation: 1 };
/** The first save after a turn. */
export const mark = (turn: number, n = 0): SaveMark => ({ turn, n });
export const NEVER = new AbortController().signal;

/** Small enough that a test has many of everything. */
export const CHUNK_BYTES = 64;
export const SMALL_PACK = 700;
export const CONDEMNED_MS = 600_000;

export interface SavesHost {
  readonly stateDir: string;
  readonly saves: SessionSaves;
  readonly workspaces: FakeWorkspaces;
  /** Another process of the same host, that begins from its files. */
  again(): SessionSaves;
  remove(): Promise<void>;
}

/** A placement whose VM has an id of its own, as every boot gives one. */
export function placed(epoch: number, boot = 1): WorkspaceOf {
  return { session: SESSION, epoch, vmId: `vm-${epoch}-${boot}` };
}

export async function createSavesHost(
  store: HostSavesOptions['store'],
  more: Partial<Omit<HostSavesOptions, 'store' | 'stateDir'>> = {},
): Promise<SavesHost> {
  const stateDir = await mkdtemp(join(tmpdir(), 'kiln-saves-'));
  const workspaces = createFakeWorkspaces({ chunkBytes: CHUNK_BYTES });
  const again = () =>
    createSessionSaves({
      stateDir,
      store,
      agent: workspaces.agent,
      packBytes: SMALL_PACK,
      wasteBytes: 1024 * 1024,
      maxCacheBytes: 1024 * 1024,
      condemnedMs: CONDEMNED_MS,
      clock: () => 0,
      logger: silentLogger,
      ...more,
    });
  return {
    stateDir,
    workspaces,
    saves: again(),
    again,
    remove: () => rm(stateDir, { recursive: true }),
  };
}
