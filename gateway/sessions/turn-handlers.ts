/** Handlers of the routes of what workspaces were after turns. */
import { Readable } from 'node:stream';
import { TAR_TYPE } from '../../contracts/api/routes/route.ts';
import type { SESSION_TURN_ROUTES } from '../../contracts/api/routes/session-turns.ts';
import { listSaved } from '../../store/sessions/saves/saved-files.ts';
import { tarOfSave } from '../../store/sessions/saves/saved-tar.ts';
import { readerSignal } from '../reader-signal.ts';
import type { RouteHandlers } from '../route-binding.ts';
import { sendContent } from './file-replies.ts';
import { refuseWithoutSessions } from './not-there-yet.ts';
import { type LookInto, looked, type SavedReplyOptions, sendSaved } from './saved-replies.ts';
import type { SavedTurns } from './saved-turns.ts';
import { threadOf } from './session-handlers.ts';

type TurnHandlers = Pick<RouteHandlers, keyof typeof SESSION_TURN_ROUTES>;

export interface TurnHandlerOptions {
  readonly turns: SavedTurns;
  readonly replies: SavedReplyOptions;
}

export function turnHandlers({ turns, replies }: TurnHandlerOptions): TurnHandlers {
  return {
    async listTurns({ params, query }, _request, reply) {
      const name = threadOf(params.thread, query);
      const kept = await looked(replies, reply, () => turns.list(name));
      return { status: 200, body: { items: kept.map((turn) => ({ turn })) } };
    },
    async getTurn({ params, query }, _request, reply) {
      const name = threadOf(params.thread, query);
      const { tree } = await looked(replies, reply, ({ signal }) => turns.open(name, params.turn, signal));
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
    async listTurnFiles({ params, query }, _request, reply) {
      const name = threadOf(params.thread, query);
      const { entries, isCut } = await looked(replies, reply, async (limits) =>
        listSaved(await turns.open(name, params.turn, limits.signal), query.dir ?? '', limits),
      );
      return { status: 200, body: { items: [...entries], isCut } };
    },
    async getTurnFile({ params: { thread, turn, path }, query }, request, reply) {
      const name = threadOf(thread, query);
      const into: LookInto = async (signal, look) => look(await turns.open(name, turn, signal));
      await sendSaved(replies, { into, path }, request, reply);
      return reply;
    },
    async getTurnTar({ params: { thread, turn }, query }, request, reply) {
      const name = threadOf(thread, query);
      const described = () =>
        reply.type(TAR_TYPE).header('content-disposition', `attachment; filename="${thread}-${turn}.tar"`);
      if (request.method === 'HEAD') {
        await looked(replies, reply, ({ signal }) => turns.open(name, turn, signal));
        return described().send(Readable.from([]));
      }
      const signal = readerSignal(reply, replies.ending);
      return replies.transfers.counted(async () => {
        const workspace = await turns.open(name, turn, signal);
        return sendContent(described(), tarOfSave(workspace, signal), replies);
      });
    },
  };
}

/** @returns handlers of a gateway that was given no sessions */
export function noTurnHandlers(): TurnHandlers {
  const refuse = refuseWithoutSessions;
  return {
    listTurns: refuse,
    getTurn: refuse,
    listTurnFiles: refuse,
    getTurnFile: refuse,
    getTurnTar: refuse,
  };
}
