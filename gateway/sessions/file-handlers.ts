/** Handlers of the routes of files in the workspaces of sessions. */
import type { SessionClient } from '../../client/temporal/sessions/session-client.ts';
import { boundedBody, drainBody } from '../../concurrency/incoming-body.ts';
import type { SESSION_FILE_ROUTES } from '../../contracts/api/routes/session-files.ts';
import { KilnError } from '../../domain/failures.ts';
import type { ThreadName } from '../../domain/names.ts';
import { hasAllStored } from '../../domain/session/save-book.ts';
import { MAX_PUT_BYTES, putSizeOf } from '../../domain/session/workspace-path.ts';
import { listSaved } from '../../store/sessions/saves/saved-files.ts';
import type { RouteHandlers } from '../route-binding.ts';
import { type ByteRange, partOf } from './byte-range.ts';
import { sendFile, sendLook } from './file-replies.ts';
import type { HostFiles } from './host-files.ts';
import { refuseWithoutSessions } from './not-there-yet.ts';
import { type LookInto, looked, type SavedReplyOptions, sendSaved } from './saved-replies.ts';
import type { SavedTurns } from './saved-turns.ts';
import { threadOf } from './session-handlers.ts';
import type { Transfers } from './transfers.ts';
import { type UntilSavedOptions, untilSaved } from './until-saved.ts';

type FileHandlers = Pick<RouteHandlers, keyof typeof SESSION_FILE_ROUTES>;

export interface FileHandlerOptions {
  readonly sessions: Pick<SessionClient, 'get'>;
  readonly files: HostFiles;
  readonly transfers: Transfers;
  readonly turns: Pick<SavedTurns, 'inPresent'>;
  readonly replies: SavedReplyOptions;
  /** How long a caller waits for a file to be in the store, and the pauses between two looks, ms. */
  readonly saves: Omit<UntilSavedOptions, 'signal'> & { readonly waitMs: number };
  /** How long the rest of a refused upload is read, ms. */
  readonly drainMs: number;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
}

export function fileHandlers(options: FileHandlerOptions): FileHandlers {
  const { files, transfers, turns, replies } = options;
  return {
    async listSessionFiles({ params, query }, _request, reply) {
      const name = threadOf(params.thread, query);
      const dir = query.dir ?? '';
      const saved = await looked(replies, reply, (limits) =>
        turns.inPresent(name, limits.signal, (workspace) => listSaved(workspace, dir, limits)),
      );
      const { entries, isCut } =
        saved ?? (await transfers.inVm(name, 'readFiles', 'again', (at) => files.list(at, dir)));
      return { status: 200, body: { items: [...entries], isCut } };
    },
    async getSessionFile({ params: { thread, path }, query }, request, reply) {
      const name = threadOf(thread, query);
      const into: LookInto = (signal, look) => turns.inPresent(name, signal, look);
      if (await sendSaved(replies, { into, path }, request, reply)) return reply;
      if (request.method === 'HEAD') {
        return sendLook(reply, await transfers.inVm(name, 'readFiles', 'again', (at) => files.look(at, path)));
      }
      // The VM has to run until the last byte.
      return transfers.inVm(name, 'readFiles', 'again', async (at) => {
        const { content, ...look } = await files.read(at, path);
        try {
          const open = (range: ByteRange | undefined) => (range ? partOf(content, range) : content);
          return await sendFile(request, reply, { ...replies, look, open });
        } catch (error) {
          content.destroy();
          throw error;
        }
      });
    },
    putSessionFile: putHandler(options),
    async deleteSessionFile({ params: { thread, path }, query }) {
      const name = threadOf(thread, query);
      await transfers.inVm(name, 'writeFiles', 'once', (at) => files.remove(at, path));
      return { status: 200, body: { path } };
    },
  };
}

function putHandler(options: FileHandlerOptions): FileHandlers['putSessionFile'] {
  const { files, transfers, drainMs } = options;
  return async ({ params: { thread, path }, query, upload }, request, reply) => {
    const name = threadOf(thread, query);
    const body = upload.bytes;
    try {
      const bytes = putSizeOf(request.headers['content-length']);
      const { created } = await transfers.inVm(name, 'writeFiles', 'once', (at) => {
        const content = boundedBody(body, bytes, { tooLarge: brokenOff, brokenOff });
        return files.write(at, path, { bytes, content });
      });
      const saved = query.wait === 'saved' ? { saved: await isSaved(options, name) } : {};
      return { status: created ? 201 : 200, body: { path, bytes, ...saved } };
    } catch (error) {
      await drainBody(body, { maxBytes: MAX_PUT_BYTES, drainMs });
      // After a refusal in the middle of a body, the start of the next request is unknown.
      if (!body.readableEnded) void reply.header('connection', 'close');
      throw error;
    }
  };
}

/** Waits until nothing of the workspace is unsaved. @returns whether that came in time */
async function isSaved({ sessions, saves, ending }: FileHandlerOptions, name: ThreadName): Promise<boolean> {
  const signal = AbortSignal.any([ending, AbortSignal.timeout(saves.waitMs)]);
  const look = async () => {
    const { state } = await sessions.get(name);
    return hasAllStored(state?.saves) ? true : undefined;
  };
  return (await untilSaved(look, { ...saves, signal })) ?? false;
}

function brokenOff(): KilnError {
  return new KilnError('SPEC_INVALID', 'The upload broke off before its end; send it again.');
}

/** @returns handlers of a gateway that was given no sessions */
export function noFileHandlers(): FileHandlers {
  const refuse = refuseWithoutSessions;
  return { listSessionFiles: refuse, getSessionFile: refuse, putSessionFile: refuse, deleteSessionFile: refuse };
}
