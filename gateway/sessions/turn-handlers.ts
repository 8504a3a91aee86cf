/** Handlers of the routes of what workspaces were after turns. */
import { Readable } from 'node:stream';

import { TAR_TYPE } from '../../contracts/api/routes/route.ts';
import type { SESSION_TURN_ROUTES } from '../../contracts/api/routes/session-turns.ts';
import { KilnError } from '../../domain/failures.ts';
import { listSaved } from '../../store/sessions/saves/saved-files.ts';
import { tarOfSave } from '../../store/sessions/saves/saved-tar.ts';
import type { RouteHandlers } from '../route-binding.ts';
import { sendContent } from './file-replies.ts';
import { sendSaved } from './saved-replies.ts';
import type { SavedTurns } from './saved-turns.ts';
import { threadOf } from './session-handlers.ts';
import type { Transfers } from './transfers.ts';

type TurnHandlers = Pick<RouteHandlers, keyof typeof SESSION_TURN_ROUTES>;

export interface TurnHandlerOptions {
  readonly turns: SavedTurns;
  readonly transfers: Pick<Transfers, 'counted'>;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
}

export function turnHandlers({ turns, transfers, ending }: TurnHandlerOptions): TurnHandlers {
  return {
    async listTurns({ params, query }) {
      const kept = await turns.list(threadOf(params.thread, query));
      return { status: 200, body: { items: kept.map((turn) => ({ turn })) } };
    },
    async getTurn({ params, query }) {
      const { tree } = await turns.open(threadOf(params.thread, query), params.turn);
      const { turn, at: savedAt, consistency, entries, bytes, skipped } = tree;
      const first = skipped.first.map(({ path, type }) => ({
        path: Buffer.from(path, 'base64').toString(),
        kind: type,
      }));
      return {
        status: 200,
        body: { turn, savedAt, consistency, entries, bytes, skipped: { count: skipped.count, first } },
      };
    },
    async listTurnFiles({ params, query }) {
      const workspace = await turns.open(threadOf(params.thread, query), params.turn);
      const { entries, isCut } = await listSaved(workspace, query.dir ?? '');
      return { status: 200, body: { items: [...entries], isCut } };
    },
    async getTurnFile({ params: { thread, turn, path }, query }, request, reply) {
      const saved = await turns.open(threadOf(thread, query), turn);
      return sendSaved({ saved, path, transfers, ending }, request, reply);
    },
    async getTurnTar({ params: { thread, turn }, query }, request, reply) {
      const workspace = await turns.open(threadOf(thread, query), turn);
      const name = `${thread}-${turn}.tar`;
      void reply.type(TAR_TYPE).header('content-disposition', `attachment; filename="${name}"`);
      if (request.method === 'HEAD') return reply.send(Readable.from([]));
      return transfers.counted(() => sendContent(reply, tarOfSave(workspace, ending)));
    },
  };
}

/** @returns handlers of a gateway that was given no sessions */
export function noTurnHandlers(): TurnHandlers {
  const refuse = async (): Promise<never> => {
    throw new KilnError('UNSUPPORTED', 'This gateway was started without sessions.');
  };
  return {
    listTurns: refuse,
    getTurn: refuse,
    listTurnFiles: refuse,
    getTurnFile: refuse,
    getTurnTar: refuse,
  };
}
