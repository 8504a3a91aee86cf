/** What the store has of the workspaces of sessions: the present one where nothing is newer, and those of kept turns. */
import type { SessionClient, SessionSnapshot } from '../../client/temporal/sessions/session-client.ts';
import type { HeadSave } from '../../contracts/store/save-documents.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { SessionName, ThreadName } from '../../domain/names.ts';
import { newestOfTurns } from '../../domain/session/head-rules.ts';
import { hasVmAtRest, isInStore } from '../../domain/session/saved-files.ts';
import { isDeleted } from '../../domain/session/session-record.ts';
import type { SaveHeads } from '../../store/sessions/saves/heads.ts';
import type { SavedWorkspace, SavedWorkspaces } from '../../store/sessions/saves/saved-workspace.ts';
import type { GatewayLogger } from '../problem-replies.ts';

export interface SavedTurnsOptions {
  readonly sessions: Pick<SessionClient, 'get'>;
  readonly heads: Pick<SaveHeads, 'read'>;
  readonly workspaces: SavedWorkspaces;
  readonly log: Pick<GatewayLogger, 'warn'>;
}

export interface SavedTurns {
  /**
   * Looks into the workspace as it is now, where the store has all of it.
   * @returns undefined where only a VM can tell, also because the store does not answer, or what it has is damaged
   * @throws TEMPORAL_UNAVAILABLE; STORE_UNAVAILABLE, SESSION_CORRUPT where no VM has it; what `look` throws; the reason of
   *   the signal
   */
  inPresent<T>(
    name: ThreadName,
    signal: AbortSignal,
    look: (workspace: SavedWorkspace) => Promise<T>,
  ): Promise<T | undefined>;
  /** @returns the turns that are kept, newest first. @throws NOT_FOUND, TEMPORAL_UNAVAILABLE, STORE_UNAVAILABLE, SESSION_CORRUPT */
  list(name: ThreadName): Promise<readonly number[]>;
  /** @throws NOT_FOUND where the turn is not kept, the reason of the signal, as `list` */
  open(name: ThreadName, turn: number, signal: AbortSignal): Promise<SavedWorkspace>;
}

export function createSavedTurns({ sessions, heads, workspaces, log }: SavedTurnsOptions): SavedTurns {
  const kept = async (name: ThreadName) => {
    const found = await sessions.get(name);
    const session = nameOf(found);
    // What a deletion has not removed yet is shown no more than what it has.
    const head = isDeleted(found.record) ? undefined : await heads.read(session);
    return { session, saves: newestOfTurns(head?.kept ?? []) };
  };
  return {
    async inPresent(name, signal, look) {
      const found = await sessions.get(name).catch(undefinedWithoutRecord);
      if (found === undefined || isDeleted(found.record) || !isInStore(found)) return undefined;
      try {
        const session = nameOf(found);
        const save = (await heads.read(session))?.save;
        return save && (await look(await workspaces.open(session, save, signal)));
      } catch (error) {
        if (!hasVmAtRest(found) || !isKilnError(error, 'STORE_UNAVAILABLE', 'SESSION_CORRUPT')) throw error;
        log.warn({ ...name, err: error }, 'files are read from a VM: their save cannot be');
        return undefined;
      }
    },
    async list(name) {
      const { saves } = await kept(name);
      return saves.map(({ turn }) => turn);
    },
    async open(name, turn, signal) {
      const { session, saves } = await kept(name);
      const save = saves.find((one) => one.turn === turn);
      if (save !== undefined) return workspaces.open(session, save, signal);
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
