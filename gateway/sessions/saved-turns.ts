/** What the store has of the workspaces of sessions: the present one where nothing is newer, and those of kept turns. */
import type { SessionClient, SessionSnapshot } from '../../client/temporal/sessions/session-client.ts';
import type { HeadSave } from '../../contracts/store/save-documents.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { SessionName, ThreadName } from '../../domain/names.ts';
import { newestOfTurns } from '../../domain/session/head-rules.ts';
import { isInStore } from '../../domain/session/saved-files.ts';
import type { SaveHeads } from '../../store/sessions/saves/heads.ts';
import type { SavedWorkspace, SavedWorkspaces } from '../../store/sessions/saves/saved-workspace.ts';

export interface SavedTurnsOptions {
  readonly sessions: Pick<SessionClient, 'get'>;
  readonly heads: Pick<SaveHeads, 'read'>;
  readonly workspaces: SavedWorkspaces;
}

export interface SavedTurns {
  /**
   * The workspace as it is now, where the store has all of it.
   * @returns undefined where only a VM can tell. @throws TEMPORAL_UNAVAILABLE, STORE_UNAVAILABLE, SESSION_CORRUPT
   */
  present(name: ThreadName): Promise<SavedWorkspace | undefined>;
  /** @returns the turns that are kept, newest first. @throws NOT_FOUND, STORE_UNAVAILABLE, as `present` */
  list(name: ThreadName): Promise<readonly number[]>;
  /** @throws NOT_FOUND where the turn is not kept, as `list` */
  open(name: ThreadName, turn: number): Promise<SavedWorkspace>;
}

export function createSavedTurns({ sessions, heads, workspaces }: SavedTurnsOptions): SavedTurns {
  const kept = async (name: ThreadName) => {
    const session = nameOf(await sessions.get(name));
    const head = await heads.read(session);
    return { session, saves: newestOfTurns(head?.kept ?? []) };
  };
  return {
    async present(name) {
      const found = await sessions.get(name).catch(undefinedWithoutRecord);
      if (found === undefined || !isInStore(found)) return undefined;
      const session = nameOf(found);
      const save = (await heads.read(session))?.save;
      return save && workspaces.open(session, save);
    },
    async list(name) {
      const { saves } = await kept(name);
      return saves.map(({ turn }) => turn);
    },
    async open(name, turn) {
      const { session, saves } = await kept(name);
      const save = saves.find((one) => one.turn === turn);
      if (save !== undefined) return workspaces.open(session, save);
      throw notKept(turn, saves);
    },
  };
}

function nameOf({ record: { project, thread, incarnation } }: SessionSnapshot): SessionName {
  return { project, thread, incarnation };
}

/** A session that is not there yet begins with its VM; one of a store that is away may have a VM that answers. */
function undefinedWithoutRecord(error: unknown): undefined {
  if (!isKilnError(error, 'NOT_FOUND', 'STORE_UNAVAILABLE')) throw error;
}

function notKept(turn: number, saves: readonly HeadSave[]): KilnError {
  const turns = saves.map((save) => save.turn);
  const which = turns.length === 0 ? 'none is yet' : `there are ${turns.join(', ')}`;
  return new KilnError('NOT_FOUND', `No workspace is kept as it was after turn ${turn}; ${which}.`);
}
